"""The JMIX doors: envelopes by study, by id and by signed request, and how their bytes are sent."""
