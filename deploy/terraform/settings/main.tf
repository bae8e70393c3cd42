# tipoff.yaml, as the service reads it. What is secret in it is named and not said, as `url_file: /secrets/NAME/value`. No
# provider, so that a test can show that the service understands it.

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

variable "push_identity" {
  type = string
}

variable "services" {
  type = map(object({
    url       = string
    audience  = optional(string)
    identity  = optional(string, "oidc")
    cloud_run = optional(string)
  }))
}

variable "more" {
  description = "What outweighs all of this, by key."
  type        = any
  default     = {}
}

output "yaml" {
  value = yamlencode(merge({
    backend = "google"
    google = {
      project            = var.project
      database           = var.database
      producers_database = var.producers_database
      location           = var.region
      push_identity      = var.push_identity
    }
    services = { for name, service in var.services : name => merge(
      { url = service.url, identity = service.identity },
      { for key, value in { audience = service.audience } : key => value if value != null },
    ) }
  }, var.more))
}
