variable "service" {
  description = "The output `service` of module runtime."
  type = object({
    name            = string
    project         = string
    project_number  = string
    region          = string
    shadow          = bool
    service_account = string
    secrets         = map(string)
    settings        = string
    args            = list(string)
    env             = map(string)
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

variable "resolvers" {
  description = "Addresses of resolvers outside the pods of kube-dns: NodeLocal DNSCache, and the metadata server, which Cloud DNS answers by."
  type        = set(string)
  default     = ["169.254.20.10/32", "169.254.169.254/32"]
}

variable "collectors_in_namespaces" {
  description = "Namespaces with an OpenTelemetry collector, which is sent to by 4317 and 4318; `telemetry` of tipoff.yaml names it."
  type        = set(string)
  default     = []
}

variable "mail_to" {
  description = "Address ranges of mail servers, which are sent to by 465 and 587."
  type        = set(string)
  default     = []
}

variable "calls_to" {
  description = "What else it calls in private networks, as services behind an internal load balancer: address ranges and ports of TCP."
  type        = list(object({ cidr = string, ports = optional(set(number), [443]) }))
  default     = []
}

variable "private_ranges" {
  description = "More address ranges that it must not call by 443, as public ones that a network uses in private."
  type        = list(string)
  default     = []
}
