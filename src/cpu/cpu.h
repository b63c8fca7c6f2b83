/* cpu: the device that computes on the processor's cores. Offers one constructor; the rest goes through
 * model/device.h. */
#ifndef SRN_CPU_CPU_H
#define SRN_CPU_CPU_H

#include "model/device.h"

/* Packs the model's matrices for this CPU (in parallel, with progress), allocates KV blocks and work buffers.
 * m must outlive the device. Errors: SRN_ENOMEM with the bytes wanted, SRN_EUNSUP for an instruction set that
 * the CPU lacks. */
int srn_cpu_device_new(const srn_model *m, const srn_device_opts *o, srn_device **ret, srn_err *err);

/* Bytes that such a device will hold: matrices (packed, or in the file's form where they are read from
 * there), KV blocks, work buffers; UINT64_MAX for what cannot be counted. Errors as above. */
int srn_cpu_device_bytes(const srn_model *m, const srn_device_opts *o, uint64_t *ret_weights,
                         uint64_t *ret_kv, uint64_t *ret_work, srn_err *err);

/* The instruction set that is used, up to limit (SERIN_CPU; NULL: the best); NULL where it would be refused.
 */
const char *srn_cpu_level(const char *limit);

/* Threads that the process may run on at once. */
uint32_t srn_cpu_count(void);

#endif
