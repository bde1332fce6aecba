/* json.c -- see json.h. */
#include "base/json.h"

#include <errno.h>

/* How many values a text would make at least. A tree takes ten times the size of its text and more, so texts made of the smallest values could fill
 * the memory: they are counted before they are parsed. */
static size_t count_values(const char *text, size_t size)
{
    size_t n = 0;
    bool quoted = false;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (quoted && c == '\\')
            i++;
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted && (c == ',' || c == ':' || c == '[' || c == '{'))
            n++;
    }
    return n;
}

rt_status rt__json_parse(json_t **root, const char *name, const char *text, size_t size, size_t most, rt_error *err)
{
    json_error_t why;
    *root = NULL;
    size_t values = count_values(text, size);
    if (values > most) RT_RAISE(RT_E_INVALID, "%s: JSON of %zu values; must be at most %zu: split it", name, values, most);
    errno = 0;
    *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &why);
    if (errno == ENOMEM) { /* jansson does not tell: it may go on without a letter of a string */
        json_decref(*root);
        *root = NULL;
        RT_RAISE(RT_E_MEMORY, "%s: out of memory for JSON of %zu bytes", name, size);
    }
    if (*root) return RT_OK;
    RT_RAISE(RT_E_INVALID, "%s: not JSON: line %d: %.160s; must be JSON: write it anew or fetch it again", name, why.line, why.text);
}

void rt__json_drop_defaults(json_t *config)
{
    size_t i;
    json_t *key;
    json_array_foreach(json_object_get(config, "_use_default_values"), i, key)
    {
        if (json_is_string(key) && *json_string_value(key) != '_') json_object_del(config, json_string_value(key));
    }
}
