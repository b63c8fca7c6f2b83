/* serve: what a status is called in each API's error objects, and which status an srn_err becomes. Tables and
 * pure functions; any thread.
 */
#include <stdlib.h>

#include "serve/http_internal.h"

typedef struct status_row {
    int status;
    const char *openai, *anthropic;
} status_row;
static const status_row statuses[] = {
    {400, "invalid_request_error", "invalid_request_error"},
    {401, "authentication_error", "authentication_error"},
    {403, "permission_error", "permission_error"},
    {404, "not_found_error", "not_found_error"},
    {405, "invalid_request_error", "invalid_request_error"},
    {408, "timeout_error", "timeout_error"},
    {409, "conflict_error", "invalid_request_error"},
    {413, "request_too_large", "request_too_large"},
    {429, "rate_limit_error", "rate_limit_error"},
    {431, "invalid_request_error", "invalid_request_error"},
    {500, "server_error", "api_error"},
    {501, "not_implemented_error", "api_error"},
    {503, "overloaded_error", "overloaded_error"},
    {504, "timeout_error", "timeout_error"},
};

static const status_row *row_of(int status) {
    for (size_t i = 0; i < SRN_LEN(statuses); i++)
        if (statuses[i].status == status) return &statuses[i];
    return row_of(status >= 500 ? 500 : 400);
}

json_t *srn__error_json(srn__dialect d, int status, const char *type, const char *param, const char *code,
                        const char *message) {
    const status_row *row = row_of(status);
    if (d == SRN__ANTHROPIC)
        return json_pack("{s:s, s:{s:s, s:s}}", "type", "error", "error", "type", row->anthropic, "message",
                         message);
    return json_pack("{s:{s:s, s:s, s:s?, s:s?}}", "error", "message", message, "type",
                     type ? type : row->openai, "param", param, "code", code);
}

typedef struct err_row {
    int err, status;
    const char *code; /* of OpenAI's error object */
} err_row;
static const err_row errs[] = {
    {SRN_EINVAL, 400, "invalid_value"},  {SRN_EUSAGE, 400, "invalid_value"},
    {SRN_EFORMAT, 400, "invalid_value"}, {SRN_EUNSUP, 400, "unsupported_value"},
    {SRN_ELIMIT, 400, "limit_exceeded"}, {SRN_ECONTEXT, 400, "context_length_exceeded"},
    {SRN_ENOENT, 404, "not_found"},      {SRN_EBUSY, 429, "queue_full"},
    {SRN_ENOMEM, 503, "out_of_memory"},  {SRN_ECANCELLED, 503, "cancelled"},
    {SRN_ETIMEOUT, 504, "timeout"},      {SRN_ENONFINITE, 500, "non_finite"},
    {SRN_EEXIST, 409, "already_exists"}, {SRN_EIO, 503, "storage_unavailable"},
};

int srn__error_status(const srn_err *err, const char **ret_code) {
    for (size_t i = 0; i < SRN_LEN(errs); i++)
        if (errs[i].err == err->code) {
            if (ret_code) *ret_code = errs[i].code;
            return errs[i].status;
        }
    if (ret_code) *ret_code = "internal_error";
    return 500;
}

int srn__put_error(srn_buf *out, srn__dialect d, const srn_err *err) {
    const char *code;
    int status = srn__error_status(err, &code);
    json_t *j = srn__error_json(d, status, NULL, NULL, code, err->text);
    char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
    srn_buf_addz(out, text ? text : "{\"error\":{\"message\":\"\"}}");
    free(text);
    json_decref(j);
    return status;
}
