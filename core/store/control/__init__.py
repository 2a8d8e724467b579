"""What holds principals to account: approvals, plans, policies, budgets, the audit log, usage."""
