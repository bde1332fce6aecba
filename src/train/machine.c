/* machine.c -- RUN/machine.json: what a run's bits depend on beside its settings. */
#include "train/run.h"

#include "base/files.h"
#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *backend_of(const rt_config *c, char *text, size_t size)
{
    const rt_backend *b = rt_backend_find(*c->backend ? c->backend : NULL);
    snprintf(text, size, "%s %s", b ? rt_backend_name(b) : c->backend, b ? rt_backend_version(b) : "");
    return text;
}

/* A line where the run goes on with something else than it was made with so far. */
static void compare(const rt__run *run, const json_t *before, const char *key, const char *what, const char *now)
{
    const char *was = json_string_value(json_object_get(before, key));
    if (!was || strcmp(was, now) == 0 || !run->observer || !run->observer->note) return;
    char line[256];
    snprintf(line, sizeof line,
             "made so far with %s %.40s, goes on with %.40s: its bits will differ in their last digits from a run made with one", what, was,
             now);
    run->observer->note(run->observer->self, line);
}

rt_status rt__run_keep_machine(const rt__run *run, bool resume, rt_error *err)
{
    enum { LIMIT = 1 << 16, VALUES = 64 };
    char path[RT_CONFIG_TEXT + 64], backend[96];
    if (!rt__run_writes(run)) return RT_OK;
    snprintf(path, sizeof path, "%s/machine.json", run->config->out);
    backend_of(run->config, backend, sizeof backend);
    if (resume && rt__file_exists(path)) {
        char *text;
        size_t size;
        json_t *before;
        RT_TRY(rt__file_read(path, LIMIT, &text, &size, err));
        rt_status status = rt__json_parse(&before, path, text, size, VALUES, err);
        free(text);
        RT_TRY(status);
        compare(run, before, "isa", "the instruction set", rt_isa_name());
        compare(run, before, "backend", "the backend", backend);
        json_decref(before);
    }
    json_t *o = json_pack("{s:s, s:s}", "isa", rt_isa_name(), "backend", backend);
    char *text = o ? json_dumps(o, JSON_INDENT(2)) : NULL;
    json_decref(o);
    if (!text) RT_RAISE(RT_E_MEMORY, "out of memory for %s", path);
    rt_status status = rt__file_write(path, text, strlen(text), err);
    free(text);
    return status;
}
