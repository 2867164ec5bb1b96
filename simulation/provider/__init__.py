"""The payment provider of the simulated world: Stripe's API over real HTTP, with faults on demand and a ledger of its own."""
