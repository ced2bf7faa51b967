"""How callers come in: ports, what stands behind them, certificates, tokens and limits."""
