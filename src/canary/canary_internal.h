/* canary, inside: what its files share. */
#ifndef SRN_CANARY_CANARY_INTERNAL_H
#define SRN_CANARY_CANARY_INTERNAL_H

#include "canary/canary.h"

/* Copies z (NULL: "") into ret[size], cut between characters, so that it stays UTF-8. */
void srn__canary_text(char *ret, size_t size, const char *z);

#endif
