"""Synthetic recordings with known rates: Lorenz sessions and chaotic recurrent networks.

Every generator is seeded: the same arguments give the same arrays, and a session does not change when
more sessions are asked for. All sessions are in the in-memory form of a dataset (dims `trial`, `time`,
`neuron`) with `spikes` (counts) and `truth` (spikes/s).
"""

from lfadsrm_hpc.data.synthetic.chaotic import chaotic_rnn_session, chaotic_rnn_sessions
from lfadsrm_hpc.data.synthetic.lorenz import lorenz_sessions, lorenz_trajectories

__all__ = ["chaotic_rnn_session", "chaotic_rnn_sessions", "lorenz_sessions", "lorenz_trajectories"]
