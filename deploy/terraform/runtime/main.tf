# One tipoff, the real one or a shadow, whatever it runs on: subscriptions, the indexes of its documents, who it is with the
# least roles, its settings, and the alerts that notice when it is silent. Called once for each; no two of them make the same
# thing, so a shadow comes and goes beside the real one.

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
  topics_file   = var.project.topics_file
  pipeline_file = var.project.pipeline_file
  pipelines     = var.project.pipelines
  shadow_prefix = var.shadow ? "shadow-" : ""
}

module "settings" {
  source             = "../settings"
  project            = var.project.id
  region             = var.project.region
  database           = var.project.database
  producers_database = var.project.producers_database
  shadow             = var.shadow
  push_identity      = local.pusher
  services           = var.services
  secrets            = keys(var.secrets)
  access             = var.access
  push               = var.push
  more               = var.settings
}

locals {
  pubsub       = "serviceAccount:service-${var.project.number}@gcp-sa-pubsub.iam.gserviceaccount.com"
  orchestrator = "serviceAccount:${google_service_account.orchestrator.email}"
  members      = { orchestrator = local.orchestrator, pubsub = local.pubsub }
  pusher       = one(google_service_account.pusher[*].email)
}
