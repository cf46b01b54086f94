"""The instrument: how good a network is, whether it uses polarization, and how sure both are.

`evaluate` measures rows (networks, counterfactuals of their polarization, baselines) scene by scene on the same scenes;
everything else is read off those values: means with bootstrap intervals, paired differences, the share of the oracle's
gain. `ablation` trains the variants of a plan and puts them through the same instrument.
"""
