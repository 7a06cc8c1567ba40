"""Studies: experiments of the TDM paper (arXiv:2305.10912) as short declarations of stages that resume."""
