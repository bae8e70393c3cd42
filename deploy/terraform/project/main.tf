# What a project needs for tipoff, whatever it runs on: topics and subscriptions as topics.yaml declares them, the database, the
# history's tables, two identities with the least roles, and the alerts that notice when tipoff itself is silent. There is no
# Cloud Scheduler: the timers are tipoff's own.

terraform {
  required_version = ">= 1.5"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.0"
    }
  }
}

module "declared" {
  source        = "../declared"
  topics_file   = var.topics_file
  pipeline_file = var.pipeline_file
  pipelines     = var.pipelines
  shadow_prefix = var.shadow ? "shadow-" : ""
}

module "settings" {
  source             = "../settings"
  project            = var.project
  region             = var.region
  database           = var.database
  producers_database = var.producers_database
  push_identity      = google_service_account.pusher.email
  services           = var.services
  more               = var.settings
}

data "google_project" "this" {
  project_id = var.project
}

locals {
  name             = var.shadow ? "tipoff-shadow" : "tipoff"
  documents        = var.shadow ? "tipoff_shadow_" : "tipoff_"
  pubsub           = "serviceAccount:service-${data.google_project.this.number}@gcp-sa-pubsub.iam.gserviceaccount.com"
  orchestrator     = "serviceAccount:${google_service_account.orchestrator.email}"
  members          = { orchestrator = local.orchestrator, pubsub = local.pubsub }
  needed_apis      = ["bigquery", "firestore", "iamcredentials", "monitoring", "pubsub", "secretmanager"]
  new_topics       = { for name, topic in module.declared.topics : name => topic if !contains(var.existing_topics, name) }
  new_tables       = { for name, table in module.declared.tables : name => table if !contains(var.existing_tables, name) }
  new_datasets     = setsubtract([for table in values(local.new_tables) : table.dataset], var.existing_datasets)
  makes_a_database = !contains(var.existing_databases, var.database)
}

resource "google_project_service" "needed" {
  for_each           = toset(local.needed_apis)
  project            = var.project
  service            = "${each.key}.googleapis.com"
  disable_on_destroy = false
}
