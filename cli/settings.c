/* settings.c -- configuration files: YAML flattened to keys and texts, "sample: {steps: [8, 4]}" to sample.steps = "8,4". */
#include "cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { DEEPEST = 8, LARGEST = 1 << 20, LONGEST_KEY = 256 };

typedef struct reader {
    yaml_parser_t parser;
    const char *path;
    cli_pair *pairs;
    int n;
    size_t bytes; /* read so far */
    FILE *file;
} reader;

void cli_free_pairs(cli_pair *pairs, int n)
{
    for (int i = 0; i < n; i++) {
        free(pairs[i].key);
        free(pairs[i].text);
    }
    free(pairs);
}

static int read_some(void *user, unsigned char *buffer, size_t size, size_t *got)
{
    reader *r = user;
    *got = fread(buffer, 1, size, r->file);
    r->bytes += *got;
    return !ferror(r->file) && r->bytes <= LARGEST;
}

static rt_status next(reader *r, yaml_event_t *event, rt_error *err)
{
    if (yaml_parser_parse(&r->parser, event)) return RT_OK;
    if (r->bytes > LARGEST) return rt_error_set(err, RT_E_INVALID, "%s: larger than %d bytes; no configuration is", r->path, LARGEST);
    return rt_error_set(err, RT_E_INVALID, "%s: line %zu: %s; this is not YAML", r->path, r->parser.problem_mark.line + 1,
                        r->parser.problem ? r->parser.problem : strerror(errno));
}

static rt_status add_pair(reader *r, const char *key, const char *text, size_t line, rt_error *err)
{
    for (int i = 0; i < r->n; i++)
        if (strcmp(r->pairs[i].key, key) == 0)
            return rt_error_set(err, RT_E_INVALID, "%s: line %zu: key '%s' stands twice; remove one", r->path, line, key);
    cli_pair *more = realloc(r->pairs, sizeof *more * (size_t)(r->n + 1));
    if (more) r->pairs = more;
    cli_pair pair = {strdup(key), strdup(text)};
    if (!more || !pair.key || !pair.text) {
        free(pair.key);
        free(pair.text);
        return rt_error_set(err, RT_E_MEMORY, "%s: out of memory", r->path);
    }
    r->pairs[r->n++] = pair;
    return RT_OK;
}

/* A list of scalars, joined by commas. */
static rt_status read_list(reader *r, const char *key, rt_error *err)
{
    char text[4096] = "";
    size_t at = 0;
    for (;;) {
        yaml_event_t e;
        TRY(next(r, &e, err));
        yaml_event_type_t type = e.type;
        size_t line = e.start_mark.line + 1;
        if (type == YAML_SCALAR_EVENT)
            at += (size_t)snprintf(text + at, sizeof text - at, "%s%s", at ? "," : "", (char *)e.data.scalar.value);
        yaml_event_delete(&e);
        if (type == YAML_SEQUENCE_END_EVENT) return add_pair(r, key, text, line, err);
        if (type != YAML_SCALAR_EVENT)
            return rt_error_set(err, RT_E_INVALID, "%s: line %zu: key '%s': a list may hold numbers and words only", r->path, line, key);
        if (at >= sizeof text - 1)
            return rt_error_set(err, RT_E_INVALID, "%s: line %zu: key '%s': the list is too long", r->path, line, key);
    }
}

static rt_status read_mapping(reader *r, const char *path, int depth, rt_error *err);

static rt_status read_value(reader *r, const char *key, int depth, rt_error *err)
{
    yaml_event_t e;
    TRY(next(r, &e, err));
    size_t line = e.start_mark.line + 1;
    rt_status status = RT_OK;
    const char *text = e.type == YAML_SCALAR_EVENT ? (const char *)e.data.scalar.value : "";
    bool plain = e.type == YAML_SCALAR_EVENT && e.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (e.type == YAML_SCALAR_EVENT) {
        bool none = plain && (!*text || strcmp(text, "~") == 0 || strcmp(text, "null") == 0);
        if (!none) status = add_pair(r, key, text, line, err);
    } else if (e.type == YAML_SEQUENCE_START_EVENT) {
        status = read_list(r, key, err);
    } else if (e.type == YAML_MAPPING_START_EVENT) {
        status = read_mapping(r, key, depth + 1, err);
    } else {
        status = rt_error_set(err, RT_E_INVALID, "%s: line %zu: key '%s': aliases are not understood; write the value", r->path, line, key);
    }
    yaml_event_delete(&e);
    return status;
}

static rt_status read_mapping(reader *r, const char *path, int depth, rt_error *err)
{
    if (depth > DEEPEST) return rt_error_set(err, RT_E_INVALID, "%s: nested deeper than %d levels", r->path, DEEPEST);
    for (;;) {
        yaml_event_t e;
        TRY(next(r, &e, err));
        yaml_event_type_t type = e.type;
        size_t line = e.start_mark.line + 1;
        char key[LONGEST_KEY];
        int length = 0;
        if (type == YAML_SCALAR_EVENT) length = snprintf(key, sizeof key, "%s%s%s", path, *path ? "." : "", (char *)e.data.scalar.value);
        yaml_event_delete(&e);
        if (type == YAML_MAPPING_END_EVENT) return RT_OK;
        if (type != YAML_SCALAR_EVENT || length >= LONGEST_KEY)
            return rt_error_set(err, RT_E_INVALID, "%s: line %zu: keys are words of fewer than %d letters", r->path, line, LONGEST_KEY);
        TRY(read_value(r, key, depth, err));
    }
}

static rt_status read_document(reader *r, rt_error *err)
{
    for (;;) {
        yaml_event_t e;
        TRY(next(r, &e, err));
        yaml_event_type_t type = e.type;
        yaml_event_delete(&e);
        if (type == YAML_STREAM_END_EVENT) return RT_OK; /* an empty file is an empty configuration */
        if (type == YAML_MAPPING_START_EVENT) return read_mapping(r, "", 1, err);
        if (type != YAML_STREAM_START_EVENT && type != YAML_DOCUMENT_START_EVENT)
            return rt_error_set(err, RT_E_INVALID, "%s: not a configuration; must be lines of 'key: value'", r->path);
    }
}

rt_status cli_read_yaml(const char *path, cli_pair **pairs, int *n, rt_error *err)
{
    reader r = {.path = path, .file = fopen(path, "rb")};
    if (!r.file) return rt_error_set(err, RT_E_IO, "%s: %s", path, strerror(errno));
    rt_status status = RT_E_MEMORY;
    if (yaml_parser_initialize(&r.parser)) {
        yaml_parser_set_input(&r.parser, read_some, &r);
        status = read_document(&r, err);
        yaml_parser_delete(&r.parser);
    } else {
        rt_error_set(err, status, "%s: out of memory", path);
    }
    fclose(r.file);
    if (status != RT_OK) {
        cli_free_pairs(r.pairs, r.n);
        return status;
    }
    *pairs = r.pairs;
    *n = r.n;
    return RT_OK;
}
