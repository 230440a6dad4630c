"""The stages from data to kit, each cached under the digest of what it depends on."""
