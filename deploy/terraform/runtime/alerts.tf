# What tipoff tells people about the pipeline is in docs/alerts.md. These are for the case that it tells nothing any more, so
# they stand on what Pub/Sub counts, not on what tipoff says of itself.

locals {
  # A filter has at most 2,048 characters and a policy six conditions, so a dozen subscriptions share one.
  heard = chunklist([for name in module.declared.reads : name if module.declared.subscriptions[name].carries != "dead-letter"], 12)
  left  = chunklist(module.declared.waiting, 12)
}

# tipoff publishes a sign of life of its own to the heartbeat topics every 20 s, and takes it in again. If nothing is taken
# in, it does not run, cannot publish, or cannot commit.
resource "google_monitoring_alert_policy" "silent" {
  for_each              = toset(module.declared.heartbeats)
  project               = var.project.id
  display_name          = "${module.declared.name}: nothing is taken in over ${each.key}"
  combiner              = "OR"
  severity              = "CRITICAL"
  notification_channels = var.notification_channels

  conditions {
    display_name = "no acknowledgement for ten minutes"
    condition_absent {
      filter   = "metric.type = \"pubsub.googleapis.com/subscription/ack_message_count\" AND resource.type = \"pubsub_subscription\" AND resource.labels.subscription_id = \"${each.key}\""
      duration = "600s"
      aggregations {
        alignment_period   = "60s"
        per_series_aligner = "ALIGN_DELTA"
      }
    }
  }

  documentation {
    content = "Nobody decides: nothing is dispatched, and no silence is noticed. `/readyz` says what is at fault, `tipoff doctor` what to do."
  }

  depends_on = [google_pubsub_subscription.declared]
}

resource "google_monitoring_alert_policy" "behind" {
  project               = var.project.id
  display_name          = "${module.declared.name}: messages wait for more than ten minutes"
  combiner              = "OR"
  severity              = "CRITICAL"
  notification_channels = var.notification_channels

  dynamic "conditions" {
    for_each = local.heard
    content {
      display_name = "the oldest message that is not acknowledged (${conditions.key + 1} of ${length(local.heard)})"
      condition_threshold {
        filter          = "metric.type = \"pubsub.googleapis.com/subscription/oldest_unacked_message_age\" AND resource.type = \"pubsub_subscription\" AND resource.labels.subscription_id = one_of(${join(", ", [for name in conditions.value : "\"${name}\""])})"
        comparison      = "COMPARISON_GT"
        threshold_value = 600
        duration        = "300s"
        aggregations {
          alignment_period   = "60s"
          per_series_aligner = "ALIGN_MAX"
        }
      }
    }
  }

  documentation {
    content = "Messages are handed back or not asked for: the store is away, or too little is decided. `/readyz` says which."
  }

  depends_on = [google_pubsub_subscription.declared]
}

resource "google_monitoring_alert_policy" "letters" {
  count                 = length(module.declared.waiting) == 0 ? 0 : 1
  project               = var.project.id
  display_name          = "${module.declared.name}: dead letters wait"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = var.notification_channels

  dynamic "conditions" {
    for_each = local.left
    content {
      display_name = "messages in a dead-letter subscription (${conditions.key + 1} of ${length(local.left)})"
      condition_threshold {
        filter          = "metric.type = \"pubsub.googleapis.com/subscription/num_undelivered_messages\" AND resource.type = \"pubsub_subscription\" AND resource.labels.subscription_id = one_of(${join(", ", [for name in conditions.value : "\"${name}\""])})"
        comparison      = "COMPARISON_GT"
        threshold_value = 0
        duration        = "600s"
        aggregations {
          alignment_period   = "300s"
          per_series_aligner = "ALIGN_MAX"
        }
      }
    }
  }

  documentation {
    content = "`tipoff dlq list` says what waits, by cause, and whether it is still wanted. The messages themselves go after a week."
  }

  depends_on = [google_pubsub_subscription.declared]
}
