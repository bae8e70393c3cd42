locals {
  # What is pushed to a consumer of whom nobody has said where it is, is not made.
  new_subscriptions = { for name, s in module.declared.subscriptions : name => s
    if !contains(var.existing_subscriptions, name) && (s.push == null || contains(keys(var.services), s.consumer))
  }
  unplaced = sort([for name, s in module.declared.subscriptions : name if s.push != null && !contains(keys(var.services), s.consumer)])
}

resource "google_pubsub_subscription" "declared" {
  for_each                   = local.new_subscriptions
  project                    = var.project.id
  name                       = each.key
  topic                      = "projects/${var.project.id}/topics/${each.value.topic}"
  ack_deadline_seconds       = each.value.ack_deadline_s
  message_retention_duration = "${each.value.retention_s}s"

  expiration_policy {
    # Never: the break between seasons is longer than the 31 days after which an idle subscription would be deleted.
    ttl = ""
  }

  retry_policy {
    minimum_backoff = "${each.value.backoff_min_s}s"
    maximum_backoff = "${each.value.backoff_max_s}s"
  }

  dynamic "dead_letter_policy" {
    for_each = each.value.dead_letter == null ? [] : [each.value]
    content {
      dead_letter_topic     = "projects/${var.project.id}/topics/${dead_letter_policy.value.dead_letter}"
      max_delivery_attempts = dead_letter_policy.value.attempts_max
    }
  }

  dynamic "push_config" {
    for_each = each.value.push == null ? [] : [merge(each.value.push, var.services[each.value.consumer])]
    content {
      push_endpoint = "${trimsuffix(push_config.value.url, "/")}${push_config.value.path}"

      oidc_token {
        service_account_email = local.pusher
        audience              = coalesce(push_config.value.audience, trimsuffix(push_config.value.url, "/"))
      }

      dynamic "no_wrapper" {
        for_each = push_config.value.wrapped ? [] : [true]
        content {
          # The attributes become headers; a consumer that reads plain JSON needs their Content-Type.
          write_metadata = true
        }
      }
    }
  }
}
