/* config_file.c -- the settings of a run as a YAML file, from which the run can be repeated bit for bit. */
#include "base/files.h"
#include "base/internal.h"
#include "distill/settings.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct reading {
    rt_config *config;
    const char *path;
} reading;

static rt_status take(void *user, const char *key, const char *text, rt_error *err)
{
    reading *r = user;
    rt_error why = {0};
    rt_status status = rt_config_set(r->config, key, text, &why);
    if (status == RT_E_USAGE) status = RT_E_INVALID; /* the file is wrong, not the command */
    return status == RT_OK ? RT_OK : rt_error_set(err, status, "%s: %s", r->path, why.text);
}

rt_status rt_config_read(rt_config *c, const char *path, rt_error *err) { return rt_settings_read(path, take, &(reading){c, path}, err); }

/* Would YAML read it back as the same text, unquoted? Words that mean null are quoted; true, 1e-08 and 8,4 are texts to the reader. */
static bool is_plain(const char *text)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./,+-";
    return *text && strspn(text, letters) == strlen(text) && text[0] != '-' && text[0] != ',' && strcmp(text, "null") != 0;
}

static rt_status write_text(FILE *f, const char *key, const char *text, rt_error *err)
{
    if (is_plain(text) || (text[0] == '-' && text[1] >= '0' && text[1] <= '9' && is_plain(text + 1))) {
        fprintf(f, "%s\n", text);
        return RT_OK;
    }
    errno = 0;
    json_t *value = json_string(text);
    char *quoted = json_dumps(value, JSON_ENCODE_ANY); /* a JSON string is a YAML string */
    json_decref(value);
    if (!quoted && errno == ENOMEM) RT_RAISE(RT_E_MEMORY, "%s: out of memory", key);
    if (!quoted) RT_RAISE(RT_E_USAGE, "%s: the text is not UTF-8, which configuration files are", key);
    fprintf(f, "%s\n", quoted);
    free(quoted);
    return RT_OK;
}

static size_t group_of(const char *name)
{
    const char *dot = strchr(name, '.');
    return dot ? (size_t)(dot - name) : 0;
}

static rt_status write_key(FILE *f, const rt_config *c, const char *name, bool *opened, rt_error *err)
{
    char text[2 * RT_CONFIG_TEXT];
    size_t n = group_of(name);
    RT_TRY(rt_config_get(c, name, text, sizeof text, err));
    if (!*text) return RT_OK; /* not set: absent says so for every reader */
    if (n && !*opened) fprintf(f, "%.*s:\n", (int)n, name);
    *opened = true;
    fprintf(f, "%s%s: ", n ? "  " : "", n ? name + n + 1 : name);
    return write_text(f, name, text, err);
}

/* A group is opened once: its keys are written where its first one stands, a method's own behind the shared ones. */
static rt_status write_keys(FILE *f, const rt_config *c, rt_error *err)
{
    const char *method = *c->method ? c->method : NULL;
    rt_config_key key, other;
    for (int i = 0; rt_config_key_at(method, i, &key); i++) {
        size_t n = group_of(key.name);
        bool opened = false, written = false;
        for (int k = 0; n && k < i && rt_config_key_at(method, k, &other); k++) written |= !strncmp(other.name, key.name, n + 1);
        if (!method && i >= (int)rt__n_shared_keys) break;
        if (!n) RT_TRY(write_key(f, c, key.name, &opened, err));
        for (int k = i; n && !written && rt_config_key_at(method, k, &other); k++)
            if (!strncmp(other.name, key.name, n + 1) && (method || k < (int)rt__n_shared_keys))
                RT_TRY(write_key(f, c, other.name, &opened, err));
    }
    return RT_OK;
}

rt_status rt_config_write(const rt_config *c, const char *path, rt_error *err)
{
    rt__file f;
    RT_TRY(rt__file_begin(&f, path, err));
    rt_status status = write_keys(f.stream, c, err);
    if (status == RT_OK) return rt__file_commit(&f, err);
    rt__file_abort(&f);
    return status;
}
