# tipoff.yaml, arguments and environment, as the service reads them wherever it runs. What is secret is named and not said, as
# `url_file: /secrets/NAME/value`. No provider, so that a test can show that the service understands it.

terraform {
  required_version = ">= 1.5"
}

variable "project" {
  type = string
}

variable "region" {
  type = string
}

variable "database" {
  type = string
}

variable "producers_database" {
  type = string
}

variable "shadow" {
  type    = bool
  default = false
}

variable "push_identity" {
  description = "As whom Pub/Sub pushes; nobody in a shadow."
  type        = string
  default     = null
}

variable "secrets" {
  description = "Names of the secrets that are mounted as /secrets/NAME/value."
  type        = set(string)
  default     = []
}

variable "access" {
  description = "Whom Google vouches for: addresses and what each may do; the origin of the pages where a proxy does not say it. `cloud_run_iam` where Cloud Run has checked the token and taken its signature off."
  type = object({
    google = optional(object({ audience = string, roles = map(string), cloud_run_iam = optional(bool, false) }))
    iap    = optional(object({ audience = string, roles = map(string) }))
    origin = optional(string)
  })
  default = {}

  validation {
    condition = alltrue([for vouched in [var.access.google, var.access.iap] : vouched == null ? true : (
      vouched.audience != "" && length(vouched.roles) > 0 &&
      alltrue([for address, role in vouched.roles : strcontains(address, "@") && contains(["producer", "viewer", "operator", "admin"], role)])
    )])
    error_message = "Google vouches for an audience and addresses: roles = { \"ann@example.org\" = \"operator\" }; a role is producer, viewer, operator or admin."
  }
}

variable "push" {
  description = "Who may post Pub/Sub's envelopes to /push. Nobody where it is not said."
  type        = object({ mode = string, audience = optional(string), emails = optional(list(string), []) })
  default     = null

  validation {
    condition     = var.push == null ? true : contains(["off", "token", "oidc", "cloud_run_iam"], var.push.mode)
    error_message = "push.mode is off, token, oidc or cloud_run_iam."
  }

  validation {
    condition     = var.push == null ? true : !contains(["oidc", "cloud_run_iam"], var.push.mode) || (var.push.audience != null && length(var.push.emails) > 0)
    error_message = "A pusher whom Google vouches for has an audience, as the subscription has it, and an address in emails."
  }
}

variable "services" {
  type = map(object({
    url       = string
    audience  = optional(string)
    identity  = optional(string, "oidc")
    cloud_run = optional(string)
  }))
  default = {}
}

variable "more" {
  description = "What outweighs all of this, by key."
  type        = any
  default     = {}
}

locals {
  google = {
    project            = var.project
    database           = var.database
    producers_database = var.producers_database
    location           = var.region
    push_identity      = var.push_identity
  }
  access = { for way, vouched in var.access : way => vouched if vouched != null }
  said = {
    backend = "google"
    google  = { for key, value in local.google : key => value if value != null }
    services = { for name, service in var.services : name => merge(
      { url = service.url, identity = service.identity },
      { for key, value in { audience = service.audience } : key => value if value != null },
    ) }
  }
  who = { for key, value in {
    access = length(local.access) == 0 ? null : local.access
    push   = var.push == null ? null : { for key, value in var.push : key => value if value != null }
  } : key => value if value != null }
}

output "yaml" {
  description = "The file that TIPOFF_CONFIG names."
  value       = yamlencode(merge(local.said, local.who, var.more))

  precondition {
    condition     = contains(var.secrets, "token") || var.access.google != null || var.access.iap != null || can(var.more.access)
    error_message = "The service listens on all addresses, so it needs to know who may call: secrets = { token = \"NAME-OF-A-SECRET\" }, or access."
  }
}

output "args" {
  description = "Arguments of the program."
  value       = concat(["serve", "--log-format", "gcp"], var.shadow ? ["--shadow"] : [])
}

output "env" {
  description = "Its environment."
  value = merge(
    {
      TIPOFF_CONFIG        = "/settings/tipoff.yaml"
      TIPOFF_LISTEN        = "0.0.0.0:8085"
      GOOGLE_CLOUD_PROJECT = var.project
    },
    contains(var.secrets, "token") ? {
      TIPOFF_TOKEN_FILE = "/secrets/token/value"
    } : {},
  )
}
