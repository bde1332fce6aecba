/* tell.c -- what a network is told of the items of a data set. */
#include "retort/model.h"

#include "base/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHOICES = 16 }; /* words to choose from */

typedef struct telling {
    const rt_dataset *ds;
    const rt_dataset_info *info;
    const rt_words *words;
    char *choice[CHOICES]; /* of a list of words */
    int n_choices;
    bool camera; /* behind the caption */
} telling;

static rt_status by_caption(const telling *t, int64_t i, int64_t *label, rt_error *err)
{
    char prompt[1200];
    const char *caption = rt_dataset_caption(t->ds, i);
    if (t->camera)
        snprintf(prompt, sizeof prompt, "%s, camera-%d", caption, rt_dataset_camera(t->ds, i));
    else
        snprintf(prompt, sizeof prompt, "%s", caption);
    rt_status status = rt_words_label(t->words, prompt, label, err);
    if (status != RT_OK) rt_error_prefix(err, "%s: caption of item %lld", t->info->chosen, (long long)i);
    return status == RT_E_USAGE ? RT_E_INVALID : status;
}

static rt_status by_class(const telling *t, int64_t i, int64_t *label, rt_error *err)
{
    (void)err;
    rt_dataset_read(t->ds, i, NULL, label);
    if (t->camera) *label = *label * t->info->cameras + rt_dataset_camera(t->ds, i);
    return RT_OK;
}

static rt_status by_camera(const telling *t, int64_t i, int64_t *label, rt_error *err)
{
    (void)err;
    *label = rt_dataset_camera(t->ds, i);
    return RT_OK;
}

static rt_status by_choice(const telling *t, int64_t i, int64_t *label, rt_error *err)
{
    const char *caption = rt_dataset_caption(t->ds, i);
    char word[RT_WORDS_WORD + 1];
    *label = -1;
    for (const char *at = caption; (at = rt_words_next(at, word));)
        for (int k = 0; k < t->n_choices; k++)
            if (!strcmp(t->choice[k], word)) *label = k;
    if (*label < 0)
        RT_RAISE(RT_E_INVALID, "%s: caption of item %lld, '%.200s', has none of the words that data.labels lists", t->info->chosen,
                 (long long)i, caption);
    return RT_OK;
}

static rt_status relabel(telling *t, rt_dataset *ds, rt_status (*of)(const telling *, int64_t, int64_t *, rt_error *), int classes,
                         rt_error *err)
{
    int64_t *labels = malloc((size_t)t->info->count * sizeof *labels);
    if (!labels) RT_RAISE(RT_E_MEMORY, "%s: out of memory for %lld labels", t->info->chosen, (long long)t->info->count);
    rt_status status = RT_OK;
    for (int64_t i = 0; i < t->info->count && status == RT_OK; i++) status = of(t, i, &labels[i], err);
    if (status == RT_OK) status = rt_dataset_relabel(ds, labels, classes, err);
    free(labels);
    return status;
}

static rt_status split(telling *t, const char *what, rt_error *err)
{
    for (const char *at = what; *at; at += *at == ',') {
        size_t n = strcspn(at, ",");
        if (n == 0 || t->n_choices == CHOICES)
            RT_RAISE(RT_E_USAGE, "data.labels: '%s'; must be 2 to %d words with commas between them", what, CHOICES);
        t->choice[t->n_choices] = strndup(at, n);
        if (!t->choice[t->n_choices++]) RT_RAISE(RT_E_MEMORY, "out of memory for words");
        at += n;
    }
    return RT_OK;
}

static rt_status tell(telling *t, rt_dataset *ds, const char *what, rt_error *err)
{
    static const char *const rows[] = {"class", "camera", "class-camera", "caption", "caption-camera"};
    const rt_dataset_info *i = t->info;
    bool list = strchr(what, ','), caption = !strncmp(what, "caption", strlen("caption")), known = list;
    for (size_t k = 0; k < RT_COUNT(rows); k++) known = known || !strcmp(rows[k], what);
    if (!known) {
        const char *close = rt_closest(what, rows, RT_COUNT(rows));
        RT_RAISE(RT_E_USAGE,
                 "data.labels: '%s'%s%s%s; give class, camera, class-camera, caption, caption-camera, or words with commas between them",
                 what, close ? "; did you mean '" : "", close ? close : "", close ? "'?" : "");
    }
    t->camera = !list && strstr(what, "camera");
    if ((caption || list) && !i->captions)
        RT_RAISE(RT_E_INVALID, "%s: data.labels: %s, but the data has no captions (field 'captions' of dataset.json)", i->chosen, what);
    if (t->camera && i->cameras == 0)
        RT_RAISE(RT_E_INVALID,
                 "%s: data.labels: %s, but the data does not say by which camera its items were seen (field 'camera' of dataset.json)",
                 i->chosen, what);
    if (caption && !t->words)
        RT_RAISE(RT_E_USAGE,
                 "data.labels: %s, but the network knows no words ('_words' of its config.json); `retort init --labels %s` writes them",
                 what, what);
    if (!caption && t->words) RT_RAISE(RT_E_USAGE, "data.labels: %s, but the network is told words; give caption or caption-camera", what);
    if (!strncmp(what, "class", strlen("class")) && i->classes == 0 && t->camera)
        RT_RAISE(RT_E_INVALID, "%s: data.labels: %s, but the data has no classes", i->chosen, what);
    if (caption) return relabel(t, ds, by_caption, 0, err);
    if (list) RT_TRY(split(t, what, err));
    if (list) return relabel(t, ds, by_choice, t->n_choices, err);
    if (!strcmp(what, "class")) return RT_OK;
    return !strcmp(what, "camera") ? relabel(t, ds, by_camera, i->cameras, err) : relabel(t, ds, by_class, i->classes * i->cameras, err);
}

rt_status rt_dataset_tell(rt_dataset *ds, const char *what, const rt_words *words, rt_error *err)
{
    telling t = {.ds = ds, .info = rt_dataset_describe(ds), .words = words};
    if (!*what && !words) return RT_OK;
    rt_status status = tell(&t, ds, *what ? what : "caption", err);
    for (int k = 0; k < t.n_choices; k++) free(t.choice[k]);
    return status;
}
