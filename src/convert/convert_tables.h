/* convert_tables.h - which tensor comes from which: the tables of the families. */
#ifndef DP_CONVERT_CONVERT_TABLES_H
#define DP_CONVERT_CONVERT_TABLES_H

#include "convert/convert_config.h"

/* How a tensor lies in the directory. */
typedef enum dp_layout {
    DP_LAYOUT_PLAIN,     /* [rows][columns] */
    DP_LAYOUT_PAIRS,     /* the same, with each head's halves to be interleaved */
    DP_LAYOUT_EACH,      /* one [rows][columns] an expert, the number in its name */
    DP_LAYOUT_GATE,      /* [expert][2 rows][columns], even rows; as MXFP4, or transposed */
    DP_LAYOUT_UP,        /* odd rows */
    DP_LAYOUT_DOWN,      /* [expert][rows][columns] as MXFP4, or transposed */
    DP_LAYOUT_GATE_BIAS, /* [expert][2 columns], even ones */
    DP_LAYOUT_UP_BIAS,
    DP_LAYOUT_K_B, /* of [head][plain + value][columns], the plain rows, transposed */
    DP_LAYOUT_V_B  /* the value rows */
} dp_layout;

/* Where a row of a table counts. */
typedef enum dp_when {
    DP_WHEN_ALWAYS,
    DP_WHEN_Q_LORA,
    DP_WHEN_NO_Q_LORA,
    DP_WHEN_DENSE, /* layers before the experts */
    DP_WHEN_EXPERTS,
    DP_WHEN_SHARED,
    DP_WHEN_BIAS
} dp_when;

typedef struct dp_name_row {
    const char *out, *in; /* behind "blk.N." and "model.layers.N."; %u is an expert */
    dp_hf_dim rows, columns;
    dp_layout layout;
    dp_when when;
} dp_name_row;

/* The rows of a layer, the last without names. */
extern const dp_name_row *const dp_name_tables[DP_HF_FAMILY_COUNT];

#endif
