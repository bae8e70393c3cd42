# tipoff on Cloud Run: one instance at least, with a processor all the time, since its timers fire without a request. Any number
# of instances, and two versions of it while one takes over, may share the store.

terraform {
  required_version = ">= 1.5"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.0"
    }
  }
}

# Cloud Run mounts files from Secret Manager alone; there is nothing secret in this one.
resource "google_secret_manager_secret" "settings" {
  project   = var.service.project
  secret_id = "${var.service.name}-settings"

  replication {
    auto {}
  }
}

resource "google_secret_manager_secret_version" "settings" {
  secret      = google_secret_manager_secret.settings.id
  secret_data = var.service.settings
}

resource "google_secret_manager_secret_iam_member" "settings" {
  project   = var.service.project
  secret_id = google_secret_manager_secret.settings.secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = "serviceAccount:${var.service.service_account}"
}

locals {
  # One directory for each: a mount hides what else was in its directory.
  files = merge(
    { for name, secret in var.service.secrets : name => { secret = secret, at = "/secrets/${name}", file = "value", version = "latest" } },
    { settings = { secret = google_secret_manager_secret.settings.secret_id, at = "/settings", file = "tipoff.yaml", version = google_secret_manager_secret_version.settings.version } },
  )
}

resource "google_cloud_run_v2_service" "tipoff" {
  project             = var.service.project
  location            = var.service.region
  name                = var.service.name
  ingress             = var.ingress
  deletion_protection = coalesce(var.deletion_protection, !var.service.shadow)

  template {
    service_account                  = var.service.service_account
    execution_environment            = "EXECUTION_ENVIRONMENT_GEN2"
    max_instance_request_concurrency = 80

    scaling {
      min_instance_count = 1
      max_instance_count = var.instances_max
    }

    containers {
      image = var.image
      args  = concat(var.service.args, var.args)

      ports {
        container_port = 8085
      }

      resources {
        limits            = { cpu = var.cpu, memory = var.memory }
        cpu_idle          = false
        startup_cpu_boost = true
      }

      dynamic "env" {
        for_each = var.service.env
        content {
          name  = env.key
          value = env.value
        }
      }

      dynamic "volume_mounts" {
        for_each = local.files
        content {
          name       = volume_mounts.key
          mount_path = volume_mounts.value.at
        }
      }

      # No request comes, and the instance before it is not ended, until the store answers. One subscription at fault keeps it from
      # being ready, and must not keep operators from it.
      startup_probe {
        period_seconds    = 5
        timeout_seconds   = 4
        failure_threshold = 36
        http_get {
          path = "/startupz"
          port = 8085
        }
      }

      # What a restart does not mend is no reason for one: this says only that the loops still move.
      liveness_probe {
        period_seconds    = 20
        timeout_seconds   = 10
        failure_threshold = 3
        http_get {
          path = "/healthz"
          port = 8085
        }
      }
    }

    dynamic "volumes" {
      for_each = local.files
      content {
        name = volumes.key
        secret {
          secret       = volumes.value.secret
          default_mode = 292 # 0444: the process is not root
          items {
            version = volumes.value.version
            path    = volumes.value.file
          }
        }
      }
    }
  }


  depends_on = [google_secret_manager_secret_iam_member.settings]
}

resource "google_cloud_run_v2_service_iam_member" "callers" {
  for_each = var.callers
  project  = var.service.project
  location = var.service.region
  name     = google_cloud_run_v2_service.tipoff.name
  role     = "roles/run.invoker"
  member   = each.key
}

# A release: a new image on this service, as its account, and nothing else.
resource "google_cloud_run_v2_service_iam_member" "deployers" {
  for_each = var.deployers
  project  = var.service.project
  location = var.service.region
  name     = google_cloud_run_v2_service.tipoff.name
  role     = "roles/run.developer"
  member   = each.key
}

resource "google_service_account_iam_member" "deployers" {
  for_each           = var.deployers
  service_account_id = "projects/${var.service.project}/serviceAccounts/${var.service.service_account}"
  role               = "roles/iam.serviceAccountUser"
  member             = each.key
}

# Ready is more than alive: the store answers, heartbeats are read, people can be told. Cloud Run asks only at the start.
resource "google_monitoring_uptime_check_config" "ready" {
  count        = var.ingress == "INGRESS_TRAFFIC_ALL" ? 1 : 0
  project      = var.service.project
  display_name = "${var.service.name} is ready"
  period       = "60s"
  timeout      = "10s"

  http_check {
    path         = "/readyz"
    port         = 443
    use_ssl      = true
    validate_ssl = true
    service_agent_authentication {
      type = "OIDC_TOKEN"
    }
  }

  monitored_resource {
    type = "uptime_url"
    labels = {
      project_id = var.service.project
      host       = trimprefix(google_cloud_run_v2_service.tipoff.uri, "https://")
    }
  }
}

resource "google_cloud_run_v2_service_iam_member" "monitoring" {
  count    = length(google_monitoring_uptime_check_config.ready)
  project  = var.service.project
  location = var.service.region
  name     = google_cloud_run_v2_service.tipoff.name
  role     = "roles/run.invoker"
  member   = "serviceAccount:service-${var.service.project_number}@gcp-sa-monitoring-notification.iam.gserviceaccount.com"
}

resource "google_monitoring_alert_policy" "not_ready" {
  count                 = length(google_monitoring_uptime_check_config.ready)
  project               = var.service.project
  display_name          = "${var.service.name} is not ready"
  combiner              = "OR"
  severity              = "CRITICAL"
  notification_channels = var.service.channels

  conditions {
    display_name = "/readyz fails from two places or more"
    condition_threshold {
      filter          = "metric.type = \"monitoring.googleapis.com/uptime_check/check_passed\" AND resource.type = \"uptime_url\" AND metric.labels.check_id = \"${google_monitoring_uptime_check_config.ready[0].uptime_check_id}\""
      comparison      = "COMPARISON_GT"
      threshold_value = 1
      duration        = "300s"
      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_NEXT_OLDER"
        cross_series_reducer = "REDUCE_COUNT_FALSE"
        group_by_fields      = ["resource.label.host"]
      }
    }
  }

  documentation {
    content = "What is at fault stands in the answer of /readyz, and in the log of the service."
  }
}

output "url" {
  description = "Where the service answers."
  value       = google_cloud_run_v2_service.tipoff.uri
}
