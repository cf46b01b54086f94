"""Pictures and pages for people: the contact sheet of a rig."""
