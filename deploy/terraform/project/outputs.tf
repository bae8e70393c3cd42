output "service" {
  description = "What the modules cloud-run and gke need."
  value = {
    name            = local.name
    project         = var.project
    project_number  = data.google_project.this.number
    region          = var.region
    shadow          = var.shadow
    service_account = google_service_account.orchestrator.email
    secrets         = var.secrets
    settings        = module.settings.yaml
    channels        = var.notification_channels
  }
}

output "unplaced" {
  description = "Subscriptions that are not made, because nobody has said where their consumers are."
  value       = local.unplaced
}

output "retired" {
  description = "Topics that should be deleted once nobody publishes on them any more, and why."
  value       = module.declared.retired
}
