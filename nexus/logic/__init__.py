"""L1 decisions: what runs, with which rights and budgets; takes the host through seams."""
