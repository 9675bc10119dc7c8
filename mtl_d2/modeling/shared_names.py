"""Names under which one head finds what another one has made, beside the backbone's levels."""

SEM_SEG_TOWER = "sem_seg_tower"  # what the semantic predictor reads, (N, C, h, w)
SEM_SEG_LOGITS = "sem_seg_logits"  # (N, K, h, w), at the stride at which they are predicted
EDGE_LOGITS = "edge_logits"  # (N, 1, h, w), likewise
