resource "google_pubsub_topic" "declared" {
  for_each                   = local.new_topics
  project                    = var.project
  name                       = each.key
  message_retention_duration = "${each.value.retention_s}s"
  labels                     = { pipeline = each.value.pipeline, carries = each.value.carries }

  lifecycle {
    # What is in a topic is lost with it.
    prevent_destroy = true
  }

  depends_on = [google_project_service.needed]
}
