/* serve: what clients of other servers ask for and Serin calls otherwise. Read by the listener when a path is
 * not there; a table and pure functions.
 */
#include "serve/http_internal.h"

typedef struct foreign {
    const char *path; /* without a slash at its end */
    const char *ours;
} foreign;

static const foreign foreign_paths[] = {
    {"", "the API is under /v1; GET /v1/models lists the models"},
    {"/v1", "ask for what is under it, as GET /v1/models"},
    {"/chat/completions", "ask POST /v1/chat/completions: the client's base URL must end with /v1"},
    {"/completions", "ask POST /v1/completions: the client's base URL must end with /v1"},
    {"/responses", "ask POST /v1/responses: the client's base URL must end with /v1"},
    {"/embeddings", "ask POST /v1/embeddings: the client's base URL must end with /v1"},
    {"/models", "ask GET /v1/models: the client's base URL must end with /v1"},
    {"/messages", "ask POST /v1/messages"},
    {"/v1/chat", "ask POST /v1/chat/completions"},
    {"/completion", "ask POST /v1/completions"},
    {"/generate", "ask POST /v1/completions"},
    {"/embedding", "ask POST /v1/embeddings"},
    {"/props", "ask GET /v1/models for the model's context, and /metrics for the state"},
    {"/slots", "ask GET /metrics for what is running"},
    {"/version", "ask GET /metrics: serin_build_info has the version"},
    {"/api/chat", "this is not Ollama's API; ask POST /v1/chat/completions"},
    {"/api/generate", "this is not Ollama's API; ask POST /v1/completions"},
    {"/api/embed", "this is not Ollama's API; ask POST /v1/embeddings"},
    {"/api/embeddings", "this is not Ollama's API; ask POST /v1/embeddings"},
    {"/api/tags", "this is not Ollama's API; ask GET /v1/models"},
    {"/api/ps", "this is not Ollama's API; ask GET /v1/models"},
    {"/api/show", "this is not Ollama's API; ask GET /v1/models/NAME"},
    {"/api/version", "this is not Ollama's API; ask GET /v1/models"},
    {"/api/pull", "this is not Ollama's API; models are fetched with: serin pull"},
};

const char *srn__path_hint(const char *path) {
    size_t n = strlen(path);
    if (strncmp(path, "/v1/v1/", 7) == 0) return "the client adds /v1 itself: leave it out of its base URL";
    while (n && path[n - 1] == '/') n--;
    for (size_t i = 0; i < SRN_LEN(foreign_paths); i++)
        if (strlen(foreign_paths[i].path) == n && memcmp(foreign_paths[i].path, path, n) == 0)
            return foreign_paths[i].ours;
    return n && path[n] ? "ask without the slash at the end" : NULL;
}
