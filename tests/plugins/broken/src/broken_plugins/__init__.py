"""Everything that can be wrong with a plug-in of tdm-agents."""
