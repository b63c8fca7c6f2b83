/* YAML as JSON values that remember their lines, for rooms that read files of their own kinds. Strict: one
 * document, string keys, none twice, no anchors, aliases and tags. Plain scalars are read as JSON reads them
 * (null, true, 12, 0.5, and YAML's ~, True, ...); all others, and those in quotes, are texts. Pure.
 */
#ifndef SRN_CONFIG_YAML_H
#define SRN_CONFIG_YAML_H

#include <jansson.h>

#include "base/base.h"

typedef struct srn_yaml srn_yaml;
/* At most max_depth containers deep, 100,000 values. SRN_EFORMAT and SRN_ELIMIT name file, line and column.
 */
int srn_yaml_parse(srn_str text, const char *name, uint32_t max_depth, srn_yaml **ret, srn_err *err);
void srn_yaml_free(srn_yaml *y);
/* A new reference. */
int srn_yaml_json(const srn_yaml *y, json_t **ret, srn_err *err);
/* The line of a place such as "messages[1].content", or of the innermost value around it that is there. */
uint32_t srn_yaml_line(const srn_yaml *y, const char *path);

#endif
