# tipoff on a GKE cluster with Workload Identity and the Secret Manager add-on.

terraform {
  required_version = ">= 1.5"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.0"
    }
    kubernetes = {
      source  = "hashicorp/kubernetes"
      version = ">= 2.30"
    }
  }
}

module "network" {
  source                   = "../network"
  resolvers                = var.resolvers
  collectors_in_namespaces = var.collectors_in_namespaces
  mail_to                  = var.mail_to
  calls_to                 = var.calls_to
  private_ranges           = var.private_ranges
}

locals {
  labels = { "app.kubernetes.io/name" = var.service.name }
}

# The account of the pods is the one of module project: no key is made, kept or rotated.
resource "kubernetes_service_account_v1" "tipoff" {
  metadata {
    name        = var.service.name
    namespace   = var.namespace
    labels      = local.labels
    annotations = { "iam.gke.io/gcp-service-account" = var.service.service_account }
  }
}

resource "google_service_account_iam_member" "workload" {
  service_account_id = "projects/${var.service.project}/serviceAccounts/${var.service.service_account}"
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:${var.service.project}.svc.id.goog[${var.namespace}/${var.service.name}]"
}

resource "kubernetes_config_map_v1" "settings" {
  metadata {
    # Another content is another name, so that pods are replaced and a rollback finds what it had.
    name      = "${var.service.name}-settings-${substr(sha256(var.service.settings), 0, 8)}"
    namespace = var.namespace
    labels    = local.labels
  }
  immutable = true
  data      = { "tipoff.yaml" = var.service.settings }

  lifecycle {
    create_before_destroy = true
  }
}

resource "kubernetes_manifest" "secrets" {
  for_each = var.service.secrets
  manifest = {
    apiVersion = "secrets-store.csi.x-k8s.io/v1"
    kind       = "SecretProviderClass"
    metadata   = { name = "${var.service.name}-${each.key}", namespace = var.namespace, labels = local.labels }
    spec = {
      provider = "gke"
      parameters = {
        secrets = yamlencode([{ resourceName = "projects/${var.service.project}/secrets/${each.value}/versions/latest", path = "value" }])
      }
    }
  }
}

resource "kubernetes_deployment_v1" "tipoff" {
  metadata {
    name      = var.service.name
    namespace = var.namespace
    labels    = local.labels
  }

  spec {
    replicas = var.replicas

    selector {
      match_labels = local.labels
    }

    # The next version is ready before this one goes; both may share the store.
    strategy {
      type = "RollingUpdate"
      rolling_update {
        max_surge       = "1"
        max_unavailable = "0"
      }
    }

    template {
      metadata {
        labels = local.labels
      }

      spec {
        service_account_name             = kubernetes_service_account_v1.tipoff.metadata[0].name
        automount_service_account_token  = false
        termination_grace_period_seconds = 30

        security_context {
          run_as_non_root = true
          run_as_user     = 65532
          run_as_group    = 65532
          seccomp_profile {
            type = "RuntimeDefault"
          }
        }

        topology_spread_constraint {
          max_skew           = 1
          topology_key       = "topology.kubernetes.io/zone"
          when_unsatisfiable = "ScheduleAnyway"
          label_selector {
            match_labels = local.labels
          }
        }

        container {
          name  = var.service.name
          image = var.image
          args  = concat(var.service.args, var.args)

          port {
            name           = "http"
            container_port = 8085
          }

          dynamic "env" {
            for_each = var.service.env
            content {
              name  = env.key
              value = env.value
            }
          }

          resources {
            requests = { cpu = "250m", memory = "256Mi" }
            limits   = { memory = "512Mi" }
          }

          security_context {
            allow_privilege_escalation = false
            read_only_root_filesystem  = true
            capabilities {
              drop = ["ALL"]
            }
          }

          volume_mount {
            name       = "settings"
            mount_path = "/settings"
            read_only  = true
          }

          dynamic "volume_mount" {
            for_each = var.service.secrets
            content {
              name       = volume_mount.key
              mount_path = "/secrets/${volume_mount.key}"
              read_only  = true
            }
          }

          startup_probe {
            period_seconds    = 5
            timeout_seconds   = 4
            failure_threshold = 36
            http_get {
              path = "/startupz"
              port = "http"
            }
          }

          readiness_probe {
            period_seconds    = 10
            timeout_seconds   = 5
            failure_threshold = 3
            http_get {
              path = "/readyz"
              port = "http"
            }
          }

          # What a restart does not mend is no reason for one: this says only that the loops still move.
          liveness_probe {
            period_seconds    = 20
            timeout_seconds   = 10
            failure_threshold = 3
            http_get {
              path = "/healthz"
              port = "http"
            }
          }
        }

        volume {
          name = "settings"
          config_map {
            name = kubernetes_config_map_v1.settings.metadata[0].name
          }
        }

        dynamic "volume" {
          for_each = var.service.secrets
          content {
            name = volume.key
            csi {
              driver            = "secrets-store-gke.csi.k8s.io"
              read_only         = true
              volume_attributes = { secretProviderClass = "${var.service.name}-${volume.key}" }
            }
          }
        }
      }
    }
  }


  depends_on = [kubernetes_manifest.secrets]
}

# A node that is drained waits until another pod is ready.
resource "kubernetes_pod_disruption_budget_v1" "tipoff" {
  metadata {
    name      = var.service.name
    namespace = var.namespace
    labels    = local.labels
  }
  spec {
    max_unavailable = "1"
    selector {
      match_labels = local.labels
    }
  }
}

resource "kubernetes_service_v1" "tipoff" {
  metadata {
    name      = var.service.name
    namespace = var.namespace
    labels    = local.labels
  }
  spec {
    selector = local.labels
    # One subscription at fault keeps all of them from being ready. That holds up a release; it must not keep operators from them.
    publish_not_ready_addresses = true
    port {
      name        = "http"
      port        = 80
      target_port = "http"
    }
  }
}

# In: whoever is named. Out: what module network says.
resource "kubernetes_network_policy_v1" "tipoff" {
  metadata {
    name      = var.service.name
    namespace = var.namespace
    labels    = local.labels
  }
  spec {
    pod_selector {
      match_labels = local.labels
    }
    policy_types = ["Ingress", "Egress"]

    dynamic "ingress" {
      for_each = length(var.callers_in_namespaces) + length(var.callers_from) > 0 ? [true] : []
      content {
        ports {
          port     = "http"
          protocol = "TCP"
        }
        dynamic "from" {
          for_each = var.callers_in_namespaces
          content {
            namespace_selector {
              match_labels = { "kubernetes.io/metadata.name" = from.value }
            }
          }
        }
        dynamic "from" {
          for_each = var.callers_from
          content {
            ip_block {
              cidr = from.value
            }
          }
        }
      }
    }

    dynamic "egress" {
      for_each = module.network.egress
      content {
        dynamic "ports" {
          for_each = egress.value.ports
          content {
            port     = tostring(ports.value.port)
            protocol = ports.value.protocol
          }
        }
        dynamic "to" {
          for_each = egress.value.blocks
          content {
            ip_block {
              cidr   = to.value.cidr
              except = to.value.except
            }
          }
        }
        dynamic "to" {
          for_each = egress.value.pods
          content {
            namespace_selector {
              match_labels = { "kubernetes.io/metadata.name" = to.value.namespace }
            }
            pod_selector {
              match_labels = to.value.labels
            }
          }
        }
      }
    }
  }
}

resource "google_monitoring_alert_policy" "not_ready" {
  project               = var.service.project
  display_name          = "${var.service.name}: its pods end and begin again"
  combiner              = "OR"
  severity              = "CRITICAL"
  notification_channels = var.service.channels

  conditions {
    display_name = "more than two restarts in ten minutes"
    condition_threshold {
      filter          = "metric.type = \"kubernetes.io/container/restart_count\" AND resource.type = \"k8s_container\" AND resource.labels.namespace_name = \"${var.namespace}\" AND resource.labels.container_name = \"${var.service.name}\""
      comparison      = "COMPARISON_GT"
      threshold_value = 2
      duration        = "0s"
      aggregations {
        alignment_period   = "600s"
        per_series_aligner = "ALIGN_DELTA"
      }
    }
  }

  conditions {
    display_name = "no pod runs"
    condition_absent {
      filter   = "metric.type = \"kubernetes.io/container/uptime\" AND resource.type = \"k8s_container\" AND resource.labels.namespace_name = \"${var.namespace}\" AND resource.labels.container_name = \"${var.service.name}\""
      duration = "300s"
      aggregations {
        alignment_period     = "60s"
        per_series_aligner   = "ALIGN_MEAN"
        cross_series_reducer = "REDUCE_COUNT"
      }
    }
  }

  documentation {
    content = "What is at fault stands in the answer of /readyz, and in the log of the pods."
  }
}
