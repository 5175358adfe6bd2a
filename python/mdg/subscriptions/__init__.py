"""Who wants to know: subscriptions, the events that each of them was given, and when the next one is due.

What is kept and counted is here. Whether an event may be told is decided at its sending, and sending is the business of
`exchange.notification`; how a subscription looks in FHIR is that of `fhir.subscription`. Rules: spec/events 4, 5.
"""
