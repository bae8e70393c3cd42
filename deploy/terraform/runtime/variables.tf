variable "project" {
  description = "The output `project` of module project."
  type = object({
    id                 = string
    number             = string
    region             = string
    database           = string
    producers_database = string
    topics_file        = string
    pipeline_file      = string
    pipelines          = set(string)
  })
}

variable "shadow" {
  description = "Whether this is for `tipoff serve --shadow`: subscriptions and documents of its own, and no right to publish anything but its own signs of life."
  type        = bool
  default     = false
}

variable "services" {
  description = "Where consumers are, by their names in topics.yaml and pipeline.yaml. A subscription that pushes to one that is not here is not made: so it is switched over one at a time. With `cloud_run`, the name of a Cloud Run service in the region, its caller is let in."
  type = map(object({
    url       = string
    audience  = optional(string)
    identity  = optional(string, "oidc")
    cloud_run = optional(string)
  }))
  default = {}

  validation {
    condition     = alltrue([for service in values(var.services) : startswith(service.url, "https://")])
    error_message = "A service is called over https."
  }
}

variable "existing_subscriptions" {
  description = "Subscriptions of topics.yaml that are there already. `tipoff topics plan` says how they differ."
  type        = set(string)
  default     = []
}

variable "secrets" {
  description = "Secrets of Secret Manager that the service reads as files /secrets/NAME/value, by that name. `token` is the one that callers have, if they have one. They are not made here: who may read their values is not decided by who runs Terraform."
  type        = map(string)
  default     = {}
}

variable "access" {
  description = "`access` of tipoff.yaml, as module settings takes it: whom Google vouches for, and what they may do."
  type = object({
    google = optional(object({ audience = string, roles = map(string), cloud_run_iam = optional(bool, false) }))
    iap    = optional(object({ audience = string, roles = map(string) }))
    origin = optional(string)
  })
  default = {}
}

variable "push" {
  description = "`push` of tipoff.yaml, as module settings takes it: who may post Pub/Sub's envelopes. Nobody where it is not said."
  type        = object({ mode = string, audience = optional(string), emails = optional(list(string), []) })
  default     = null
}

variable "settings" {
  description = "More of tipoff.yaml, as alerts, by key; it outweighs what is made up here, a whole key at a time."
  type        = any
  default     = {}
}

variable "operators" {
  description = "Who may look at the dead letters that wait, as group:ops@example.org."
  type        = set(string)
  default     = []
}

variable "token_creator" {
  description = "Whether Pub/Sub's own account needs the right to make tokens for the push identity: only in projects from before April 2021."
  type        = bool
  default     = false
}

variable "notification_channels" {
  description = "Cloud Monitoring channels that are told when tipoff is silent."
  type        = list(string)
  default     = []
}
