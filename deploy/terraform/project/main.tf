# What a project has once, whoever runs in it: the topics that topics.yaml declares, the database, the history's tables, and the
# APIs. A shadow and the real one stand on the same, so that either can come and go. There is no Cloud Scheduler: the timers
# are tipoff's own.

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
}

data "google_project" "this" {
  project_id = var.project
}

locals {
  needed_apis      = ["bigquery", "firestore", "iamcredentials", "monitoring", "pubsub", "run", "secretmanager"]
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
