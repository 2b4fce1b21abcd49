"""The offline half: the warehouse of events; later sample join, training, evaluation. Never imported by serving."""
