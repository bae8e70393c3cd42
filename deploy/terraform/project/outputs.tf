output "project" {
  description = "What module runtime needs."
  value = {
    id                 = var.project
    number             = data.google_project.this.number
    region             = var.region
    database           = var.database
    producers_database = var.producers_database
    topics_file        = var.topics_file
    pipeline_file      = var.pipeline_file
    pipelines          = var.pipelines
  }
  # Whatever is made of this finds it all there.
  depends_on = [
    google_project_service.needed,
    google_pubsub_topic.declared,
    google_firestore_database.own,
    google_bigquery_table.history,
  ]
}

output "retired" {
  description = "Topics that should be deleted once nobody publishes on them any more, and why."
  value       = module.declared.retired
}
