"""Contacts, companies and leads: their fields, how they change, and who is who."""
