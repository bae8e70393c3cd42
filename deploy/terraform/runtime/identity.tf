# The least that works, and each of it on the one thing that it is about. docs/deploy.md has the list with its reasons, and a
# test holds the two together: no role on the whole project that could be had on a part of it, none of the primitive ones.

resource "google_service_account" "orchestrator" {
  project      = var.project.id
  account_id   = module.declared.name
  display_name = "tipoff${var.shadow ? ", in the shadow" : ""}: reads what is reported, asks for what is next"
}

# As whom Pub/Sub calls consumers. It may do nothing but that. Nobody is called from the shadow.
resource "google_service_account" "pusher" {
  count        = var.shadow ? 0 : 1
  project      = var.project.id
  account_id   = "${module.declared.name}-pusher"
  display_name = "As whom Pub/Sub pushes to the pipeline's services"
}

resource "google_pubsub_subscription_iam_member" "declared" {
  for_each     = { for grant in module.declared.grants : "${grant.on} ${grant.who} ${grant.role}" => grant if grant.kind == "subscription" && !contains(local.unplaced, grant.on) }
  project      = var.project.id
  subscription = each.value.on
  role         = each.value.role
  member       = local.members[each.value.who]
  depends_on   = [google_pubsub_subscription.declared]
}

resource "google_pubsub_topic_iam_member" "declared" {
  for_each = { for grant in module.declared.grants : "${grant.on} ${grant.who} ${grant.role}" => grant if grant.kind == "topic" }
  project  = var.project.id
  topic    = each.value.on
  role     = each.value.role
  member   = local.members[each.value.who]
}

resource "google_bigquery_table_iam_member" "declared" {
  for_each   = { for grant in module.declared.grants : grant.on => grant if grant.kind == "table" }
  project    = var.project.id
  dataset_id = module.declared.tables[each.key].dataset
  table_id   = module.declared.tables[each.key].table
  role       = each.value.role
  member     = local.members[each.value.who]
}

resource "google_bigquery_dataset_iam_member" "declared" {
  for_each   = { for grant in module.declared.grants : grant.on => grant if grant.kind == "dataset" }
  project    = var.project.id
  dataset_id = each.key
  role       = each.value.role
  member     = local.members[each.value.who]
}

# A query runs as a job of the project. It reads nothing that is not let in above.
resource "google_project_iam_member" "queries" {
  project = var.project.id
  role    = "roles/bigquery.jobUser"
  member  = local.orchestrator
}

# Firestore knows no role on a database, but a condition on one.
resource "google_project_iam_member" "documents" {
  project = var.project.id
  role    = "roles/datastore.user"
  member  = local.orchestrator

  condition {
    title      = "${module.declared.name}-documents"
    expression = "resource.name == \"projects/${var.project.id}/databases/${var.project.database}\""
  }
}

# Heartbeats are read there, and, but by a shadow, the lock of a dead run is deleted.
resource "google_project_iam_member" "producers" {
  count   = var.project.producers_database == var.project.database ? 0 : 1
  project = var.project.id
  role    = var.shadow ? "roles/datastore.viewer" : "roles/datastore.user"
  member  = local.orchestrator

  condition {
    title      = "${module.declared.name}-producers"
    expression = "resource.name == \"projects/${var.project.id}/databases/${var.project.producers_database}\""
  }
}

resource "google_project_iam_member" "telemetry" {
  for_each = toset(["roles/cloudtrace.agent", "roles/logging.logWriter", "roles/monitoring.metricWriter"])
  project  = var.project.id
  role     = each.key
  member   = local.orchestrator
}

resource "google_secret_manager_secret_iam_member" "read" {
  for_each  = var.secrets
  project   = var.project.id
  secret_id = each.value
  role      = "roles/secretmanager.secretAccessor"
  member    = local.orchestrator
}

locals {
  invoked = { for name, service in var.services : name => service.cloud_run if service.cloud_run != null && !var.shadow }
}

# What is called directly, and what is pushed to.
resource "google_cloud_run_v2_service_iam_member" "orchestrator" {
  for_each = local.invoked
  project  = var.project.id
  location = var.project.region
  name     = each.value
  role     = "roles/run.invoker"
  member   = local.orchestrator
}

resource "google_cloud_run_v2_service_iam_member" "pusher" {
  for_each = local.invoked
  project  = var.project.id
  location = var.project.region
  name     = each.value
  role     = "roles/run.invoker"
  member   = "serviceAccount:${local.pusher}"
}

resource "google_service_account_iam_member" "tokens" {
  count              = var.token_creator && !var.shadow ? 1 : 0
  service_account_id = google_service_account.pusher[0].name
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = local.pubsub
}

resource "google_pubsub_subscription_iam_member" "operators" {
  for_each     = { for pair in setproduct(module.declared.waiting, var.operators) : join(" ", pair) => { subscription = pair[0], member = pair[1] } }
  project      = var.project.id
  subscription = each.value.subscription
  role         = "roles/pubsub.subscriber"
  member       = each.value.member
  depends_on   = [google_pubsub_subscription.declared]
}
