variable "service" {
  description = "The output `service` of module project."
  type = object({
    name            = string
    project         = string
    project_number  = string
    region          = string
    shadow          = bool
    service_account = string
    secrets         = map(string)
    settings        = string
    channels        = list(string)
  })
}

variable "image" {
  description = "The image, by its digest: REGISTRY/tipoff@sha256:…"
  type        = string

  validation {
    condition     = can(regex("@sha256:[0-9a-f]{64}$", var.image))
    error_message = "Name the image by its digest: a tag may become another one."
  }
}

variable "args" {
  description = "More arguments of `tipoff serve`."
  type        = list(string)
  default     = []
}

variable "namespace" {
  description = "A namespace that is there."
  type        = string
  default     = "tipoff"
}

variable "replicas" {
  description = "How many pods. Two of them, so that one can go."
  type        = number
  default     = 2
}

variable "callers_in_namespaces" {
  description = "Namespaces whose pods may call it."
  type        = set(string)
  default     = []
}

variable "callers_from" {
  description = "Address ranges that may call it, as those of a load balancer's health checks: 35.191.0.0/16 and 130.211.0.0/22."
  type        = set(string)
  default     = []
}

variable "private_ranges" {
  description = "More address ranges that it must not call."
  type        = list(string)
  default     = []
}
