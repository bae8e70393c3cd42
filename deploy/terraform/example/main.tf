# A project with tipoff on Cloud Run. For GKE, take module gke in place of cloud-run, with a provider for the cluster.

terraform {
  required_version = ">= 1.5"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.0"
    }
  }
  # State names every grant there is: keep it where few can read it.
  # backend "gcs" { bucket = "…" }
}

provider "google" {
  project = var.project
  region  = var.region
}

variable "project" {
  type = string
}

variable "region" {
  type    = string
  default = "us-west2"
}

variable "image" {
  description = "REGISTRY/tipoff@sha256:…, as deploy/image.sh prints it once it is pushed."
  type        = string
}

variable "shadow" {
  description = "Begin with true; docs/migration.md says when it becomes false."
  type        = bool
  default     = true
}

module "project" {
  source  = "../project"
  project = var.project
  region  = var.region
  shadow  = var.shadow
  secrets = { token = "tipoff-token", slack = "tipoff-slack-webhook" }

  # The pipeline that is there already has these.
  existing_topics = [
    "nba-phase1-scrapers-complete", "nba-phase2-raw-complete", "nba-phase3-analytics-complete",
    "nba-phase4-precompute-complete", "nba-phase5-predictions-complete", "nba-phase6-export-complete",
    "nba-grading-complete", "nba-scraper-trigger",
  ]

  # A consumer that is named here is pushed to; it is switched over by being added.
  services = {
    # nba-phase4-precompute-processors = { url = "https://phase4-abc-wl.a.run.app", cloud_run = "nba-phase4-precompute-processors" }
  }

  settings = {
    alerts = { channels = { ops = { kind = "slack", url_file = "/secrets/slack/value" } } }
  }
}

module "tipoff" {
  source  = "../cloud-run"
  service = module.project.service
  image   = var.image
}

output "url" {
  value = module.tipoff.url
}

output "unplaced" {
  value = module.project.unplaced
}
