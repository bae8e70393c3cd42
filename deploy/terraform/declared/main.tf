# What topics.yaml, pipeline.yaml, firestore.indexes.json and schemas/bigquery declare, in the terms of Google's resources, and
# who may do what with it. It has no provider and makes nothing, so it is evaluated where nobody has a project:
#
#     terraform -chdir=deploy/terraform/declared apply -auto-approve -state=/tmp/declared.tfstate
#
# A test compares what comes out with what the service itself reads from the same files.

terraform {
  required_version = ">= 1.5"
}

locals {
  root     = "${path.module}/../../.."
  file     = yamldecode(file(coalesce(var.topics_file, "${local.root}/topics.yaml")))
  pipeline = file(coalesce(var.pipeline_file, "${local.root}/pipeline.yaml"))
  database = jsondecode(file("${local.root}/deploy/firestore.indexes.json"))
  schemas  = { for name in fileset("${local.root}/schemas/bigquery", "*.json") : trimsuffix(name, ".json") => jsondecode(file("${local.root}/schemas/bigquery/${name}")) }

  # Whose subscriptions are ours.
  ourselves = "tipoff"
  shadow    = var.shadow_prefix != ""

  live    = { for name, topic in local.file.topics : name => topic if !can(topic.retired) }
  retired = { for name, topic in local.file.topics : name => topic.retired if can(topic.retired) }

  # Subscriptions as they are written, with the defaults of their delivery filled in.
  written = merge([
    for topic, declared in local.live : {
      for name, subscription in try(declared.subscriptions, {}) : name => {
        topic        = topic
        carries      = declared.carries
        consumer     = subscription.consumer
        delivery     = subscription.delivery
        path         = try(subscription.endpoint, null)
        wrapped      = try(subscription.wrapped, true)
        ack_deadline = try(subscription.ack_deadline, local.file.defaults[subscription.delivery].ack_deadline)
        retention    = try(subscription.retention, local.file.defaults[subscription.delivery].retention)
        backoff_min  = try(subscription.backoff.min, local.file.defaults[subscription.delivery].backoff.min)
        backoff_max  = try(subscription.backoff.max, local.file.defaults[subscription.delivery].backoff.max)
        dead_letter  = try(subscription.dead_letter, null)
        attempts_max = try(subscription.attempts_max, local.file.defaults[subscription.delivery].attempts_max)
      }
    }
  ]...)

  # A duration is a whole number and a unit.
  unit = { s = 1, m = 60, h = 3600, d = 86400 }
  durations = toset(concat(
    [local.file.defaults.topic.retention],
    [for topic in values(local.live) : topic.retention if can(topic.retention)],
    flatten([for s in values(local.written) : [s.ack_deadline, s.retention, s.backoff_min, s.backoff_max]]),
  ))
  seconds = { for text in local.durations : text => tonumber(regex("^([0-9]+)[smhd]$", text)[0]) * local.unit[regex("[smhd]$", text)] }

  # A shadow has copies of our subscriptions under names of its own, gives nothing up, and makes nothing for anybody else. It
  # replays no letter, so it reads none.
  ours          = { for name, s in local.written : name => s if s.consumer == local.ourselves }
  heard         = distinct([for s in values(local.ours) : s.topic])
  subscriptions = { for name, s in local.written : "${var.shadow_prefix}${name}" => s if !local.shadow || (s.consumer == local.ourselves && s.carries != "dead-letter") }
  topics        = { for name, topic in local.live : name => topic if !local.shadow || (contains(local.heard, name) && topic.carries != "dead-letter") }

  # Where a subscription gives up, and what is given up.
  letters = { for name, s in local.subscriptions : name => s.dead_letter if s.dead_letter != null && !local.shadow }

  # What is published by us: what topics.yaml says, and the probe by which a silent stream is noticed.
  heartbeats = [for name, topic in local.live : name if topic.carries == "heartbeat"]
  triggers   = [for name, topic in local.live : name if contains(try(topic.publishers, []), local.ourselves)]
  # A replay of a dead letter goes to the topic that it came from.
  replays = distinct([for name, s in local.written : s.topic if s.dead_letter != null])
  sends   = sort(distinct(local.shadow ? local.heartbeats : concat(local.heartbeats, local.triggers, var.replay ? local.replays : [])))
  reads   = sort([for name, s in local.subscriptions : name if s.consumer == local.ourselves])

  # Datasets that a probe or a report reads, and no others.
  datasets = sort(distinct([for found in regexall("\\b([a-z]+_[a-z]+)\\.[a-z][a-z0-9_]*", join("\n", [
    for line in split("\n", local.pipeline) : line if !startswith(trimspace(line), "#")
  ])) : found[0] if contains(var.pipelines, split("_", found[0])[0])]))

  history = { for name, schema in local.schemas : name => schema if !local.shadow }

  grants = concat(
    flatten([for name in local.reads : [
      { who = "orchestrator", role = "roles/pubsub.subscriber", kind = "subscription", on = name },
      { who = "orchestrator", role = "roles/pubsub.viewer", kind = "subscription", on = name },
    ]]),
    [for name in local.sends : { who = "orchestrator", role = "roles/pubsub.publisher", kind = "topic", on = name }],
    [for name in sort(distinct(values(local.letters))) : { who = "pubsub", role = "roles/pubsub.publisher", kind = "topic", on = name }],
    [for name in sort(keys(local.letters)) : { who = "pubsub", role = "roles/pubsub.subscriber", kind = "subscription", on = name }],
    [for name in sort(keys(local.history)) : { who = "orchestrator", role = "roles/bigquery.dataEditor", kind = "table", on = name }],
    [for name in local.datasets : { who = "orchestrator", role = "roles/bigquery.dataViewer", kind = "dataset", on = name }],
  )
}
