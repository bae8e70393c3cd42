resource "google_firestore_index" "declared" {
  for_each   = module.declared.indexes
  project    = var.project.id
  database   = var.project.database
  collection = "${module.declared.documents}${each.value.collection}"

  dynamic "fields" {
    for_each = each.value.fields
    content {
      field_path = fields.value.path
      order      = fields.value.order
    }
  }
}

# Old documents go by themselves, and large fields that nobody asks by are not indexed.
resource "google_firestore_field" "declared" {
  for_each   = module.declared.fields
  project    = var.project.id
  database   = var.project.database
  collection = "${module.declared.documents}${each.value.collection}"
  field      = each.value.path

  index_config {}

  dynamic "ttl_config" {
    for_each = each.value.ttl ? [true] : []
    content {}
  }
}
