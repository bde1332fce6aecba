/* settings_file.c -- files of settings: YAML events flattened to keys and texts. */
#include "base/files.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { DEEPEST = 8, LARGEST = 1 << 20, MOST_KEYS = 4096, LONGEST_KEY = 256 };

typedef struct reader {
    yaml_parser_t parser;
    const char *path;
    char **keys; /* seen so far, sorted */
    size_t n_keys;
    rt_take_setting take;
    void *user;
} reader;

static rt_status next(reader *r, yaml_event_t *event, rt_error *err)
{
    if (yaml_parser_parse(&r->parser, event)) return RT_OK;
    if (r->parser.error == YAML_MEMORY_ERROR) RT_RAISE(RT_E_MEMORY, "%s: out of memory", r->path);
    RT_RAISE(RT_E_INVALID, "%s: line %zu: %s; this is not YAML", r->path, r->parser.problem_mark.line + 1,
             r->parser.problem ? r->parser.problem : "unreadable");
}

/* The text of a scalar event; false if it holds a NUL, behind which C would not look. */
static bool scalar_text(const yaml_event_t *e, const char **text)
{
    *text = (const char *)e->data.scalar.value;
    return strlen(*text) == e->data.scalar.length;
}

/* Keeps the key; fails if it was there. */
static rt_status claim(reader *r, const char *key, size_t line, rt_error *err)
{
    size_t low = 0, high = r->n_keys;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strcmp(r->keys[middle], key);
        if (order == 0) RT_RAISE(RT_E_INVALID, "%s: line %zu: key '%s' stands twice; remove one", r->path, line, key);
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (r->n_keys == MOST_KEYS) RT_RAISE(RT_E_INVALID, "%s: line %zu: more than %d keys; no configuration has", r->path, line, MOST_KEYS);
    char *copy = strdup(key);
    if (!copy) RT_RAISE(RT_E_MEMORY, "%s: out of memory", r->path);
    memmove(r->keys + low + 1, r->keys + low, (r->n_keys - low) * sizeof *r->keys);
    r->keys[low] = copy;
    r->n_keys++;
    return RT_OK;
}

static rt_status take_setting(reader *r, const char *key, const char *text, size_t line, rt_error *err)
{
    RT_TRY(claim(r, key, line, err));
    return r->take(r->user, key, text, err);
}

/* A list of scalars, joined by commas. */
static rt_status read_list(reader *r, const char *key, rt_error *err)
{
    char text[4096] = "";
    size_t at = 0;
    for (;;) {
        yaml_event_t e;
        RT_TRY(next(r, &e, err));
        yaml_event_type_t type = e.type;
        size_t line = e.start_mark.line + 1;
        const char *item;
        bool whole = type != YAML_SCALAR_EVENT || (scalar_text(&e, &item) && !strchr(item, ','));
        if (type == YAML_SCALAR_EVENT && whole && at < sizeof text)
            at += (size_t)snprintf(text + at, sizeof text - at, "%s%s", at ? "," : "", item);
        yaml_event_delete(&e);
        if (type == YAML_SEQUENCE_END_EVENT) return take_setting(r, key, text, line, err);
        if (type != YAML_SCALAR_EVENT || !whole)
            RT_RAISE(RT_E_INVALID, "%s: line %zu: key '%s': a list may hold numbers and words only", r->path, line, key);
        if (at >= sizeof text) RT_RAISE(RT_E_INVALID, "%s: line %zu: key '%s': the list is too long", r->path, line, key);
    }
}

static rt_status read_mapping(reader *r, const char *path, int depth, rt_error *err);

static rt_status read_value(reader *r, const char *key, int depth, rt_error *err)
{
    yaml_event_t e;
    RT_TRY(next(r, &e, err));
    size_t line = e.start_mark.line + 1;
    rt_status status = RT_OK;
    const char *text;
    if (e.type == YAML_SCALAR_EVENT && !scalar_text(&e, &text)) {
        status = rt_error_set(err, RT_E_INVALID, "%s: line %zu: key '%s': the value holds a NUL", r->path, line, key);
    } else if (e.type == YAML_SCALAR_EVENT) {
        bool plain = e.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
        if (plain && (!*text || strcmp(text, "~") == 0 || strcmp(text, "null") == 0))
            status = claim(r, key, line, err);
        else
            status = take_setting(r, key, text, line, err);
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
    if (depth > DEEPEST) RT_RAISE(RT_E_INVALID, "%s: key '%s': nested deeper than %d levels", r->path, path, DEEPEST);
    for (;;) {
        yaml_event_t e;
        RT_TRY(next(r, &e, err));
        yaml_event_type_t type = e.type;
        size_t line = e.start_mark.line + 1;
        char key[LONGEST_KEY];
        const char *name = "";
        bool good = type == YAML_SCALAR_EVENT && scalar_text(&e, &name) && *name;
        if (good) good = snprintf(key, sizeof key, "%s%s%s", path, *path ? "." : "", name) < LONGEST_KEY;
        yaml_event_delete(&e);
        if (type == YAML_MAPPING_END_EVENT) return RT_OK;
        if (!good) RT_RAISE(RT_E_INVALID, "%s: line %zu: keys are words of fewer than %d letters", r->path, line, LONGEST_KEY);
        RT_TRY(read_value(r, key, depth, err));
    }
}

static rt_status read_documents(reader *r, rt_error *err)
{
    for (bool seen = false;;) {
        yaml_event_t e;
        RT_TRY(next(r, &e, err));
        yaml_event_type_t type = e.type;
        size_t line = e.start_mark.line + 1;
        bool empty = type == YAML_SCALAR_EVENT && e.data.scalar.length == 0; /* what libyaml makes of "---" alone */
        yaml_event_delete(&e);
        if (type == YAML_STREAM_END_EVENT) return RT_OK; /* an empty file is an empty configuration */
        if (type == YAML_STREAM_START_EVENT || type == YAML_DOCUMENT_START_EVENT || type == YAML_DOCUMENT_END_EVENT || empty) continue;
        if (type != YAML_MAPPING_START_EVENT)
            RT_RAISE(RT_E_INVALID, "%s: line %zu: not a configuration; must be lines of 'key: value'", r->path, line);
        if (seen) RT_RAISE(RT_E_INVALID, "%s: line %zu: a second document begins; a configuration is one", r->path, line);
        seen = true;
        RT_TRY(read_mapping(r, "", 1, err));
    }
}

rt_status rt_settings_read(const char *path, rt_take_setting take, void *user, rt_error *err)
{
    reader r = {.path = path, .take = take, .user = user};
    char *text;
    size_t size;
    RT_TRY(rt__file_read(path, LARGEST, &text, &size, err));
    rt_status status = RT_E_MEMORY;
    r.keys = malloc(MOST_KEYS * sizeof *r.keys);
    if (r.keys && yaml_parser_initialize(&r.parser)) {
        yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, size);
        status = read_documents(&r, err);
        yaml_parser_delete(&r.parser);
    } else {
        rt_error_set(err, status, "%s: out of memory", path);
    }
    for (size_t i = 0; i < r.n_keys; i++) free(r.keys[i]);
    free(r.keys);
    free(text);
    return status;
}
