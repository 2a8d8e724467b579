"""Handlers of ApprovalService: approvals, plans, policies, budgets."""
