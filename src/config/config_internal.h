/* config, inside: YAML as a tree of nodes with their places; a configuration as JSON. */
#ifndef SRN_CONFIG_CONFIG_INTERNAL_H
#define SRN_CONFIG_CONFIG_INTERNAL_H

#include <jansson.h>

#include "config/config.h"

typedef enum srn__node_kind { SRN__SCALAR, SRN__LIST, SRN__MAP } srn__node_kind;

/* A value; the items of a list, or the entries of a mapping in the file's order, hang on first/next. */
typedef struct srn__node {
    srn__node_kind kind;
    const char *key;       /* of a mapping's entry */
    uint32_t line, column; /* from 1 */
    uint32_t key_line;     /* where the key stands */
    srn_str text;          /* of a scalar; NUL-terminated */
    bool quoted;           /* a scalar in quotes is never null */
    uint32_t n;
    struct srn__node *first, *next;
} srn__node;

/* Parses one document without anchors, aliases and tags, with string keys, none twice, at most max_depth
 * deep. An empty document is an empty mapping. Nodes live in the arena. */
int srn__yaml_parse(srn_arena *a, srn_str text, const char *name, uint32_t max_depth, srn__node **ret,
                    srn_err *err);
/* A new reference to what the node stands for; NULL: out of memory (yaml_json.c). */
json_t *srn__yaml_value(const srn__node *n);
/* All that is in force as JSON, without secrets; NULL: out of memory (identity.c). */
json_t *srn__config_json(const srn_config *c);

/* A number from 0 to 1 in decimals. */
bool srn__share_parse(srn_str s, double *ret);

/* telemetry.c: whether what is sent can be sent. */
int srn__telemetry_check(const srn_config *c, srn_err *err);

#endif
