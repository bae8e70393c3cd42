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

variable "instances" {
  description = "Who runs: `shadow`, `real`, or both beside each other. docs/migration.md says when."
  type        = set(string)
  default     = ["shadow"]

  validation {
    condition     = length(setsubtract(var.instances, ["shadow", "real"])) == 0
    error_message = "An instance is `shadow` or `real`."
  }
}

variable "send" {
  description = "What the real one sends: `none`, phases as `export,grading`, or `all`."
  type        = string
  default     = "none"
}

variable "callers" {
  description = "Who may call, as { \"user:ann@example.org\" = \"operator\" }: Cloud Run lets them in, and tipoff knows what they may do."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for member in keys(var.callers) : can(regex("^(user|serviceAccount):[^@]+@", member))])
    error_message = "A caller is user:ADDRESS or serviceAccount:ADDRESS; tipoff does not know who is in a group."
  }
}

# What both stand on, made once.
module "project" {
  source  = "../project"
  project = var.project
  region  = var.region

  # The pipeline that is there already has these.
  existing_topics = [
    "nba-phase1-scrapers-complete", "nba-phase2-raw-complete", "nba-phase3-analytics-complete",
    "nba-phase4-precompute-complete", "nba-phase5-predictions-complete", "nba-phase6-export-complete",
    "nba-grading-complete", "nba-scraper-trigger",
  ]
}

module "runtime" {
  source   = "../runtime"
  for_each = var.instances
  project  = module.project.project
  shadow   = each.key == "shadow"
  secrets  = { token = "tipoff-token", slack = "tipoff-slack-webhook" }

  # A consumer that is named here is pushed to by the real one; it is switched over by being added.
  services = {
    # nba-phase4-precompute-processors = { url = "https://phase4-abc-wl.a.run.app", cloud_run = "nba-phase4-precompute-processors" }
  }

  # Callers through `gcloud run services proxy`: the audience is that of everybody's gcloud, and Cloud Run has checked the token.
  access = {
    origin = "http://127.0.0.1:8087"
    google = length(var.callers) == 0 ? null : {
      audience      = "32555940559.apps.googleusercontent.com"
      roles         = { for member, role in var.callers : split(":", member)[1] => role }
      cloud_run_iam = true
    }
  }

  settings = {
    alerts = { channels = { ops = { kind = "slack", url_file = "/secrets/slack/value" } } }
  }
}

module "tipoff" {
  source   = "../cloud-run"
  for_each = var.instances
  service  = module.runtime[each.key].service
  image    = var.image
  args     = each.key == "shadow" || var.send == "all" ? [] : ["--send", var.send]
  callers  = keys(var.callers)
}

output "urls" {
  value = { for name, tipoff in module.tipoff : name => tipoff.url }
}

output "unplaced" {
  value = { for name, runtime in module.runtime : name => runtime.unplaced }
}
