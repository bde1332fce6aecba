/* captions.c -- see captions.h. */
#include "captions.h"

#include "retort/nn.h"

#include <stdlib.h>
#include <string.h>

/* Words in the order in which captions have them: {word: does it stand in front of a last comma, too?}, jansson keeps that order. */
static int count_words(json_t *seen, const char *caption)
{
    char word[RT_WORDS_WORD + 1];
    const char *comma = strrchr(caption, ',');
    int n = 0;
    for (const char *at = caption; (at = rt_words_next(at, word)); n++) {
        bool before = !comma || at <= comma;
        if (before || !json_object_get(seen, word)) json_object_set_new(seen, word, json_boolean(before));
    }
    return n;
}

rt_status cli_words_of_captions(json_t **words, const rt_dataset *ds, bool cameras, int *rows, rt_error *err)
{
    const rt_dataset_info *i = rt_dataset_describe(ds);
    if (!i->captions || (cameras && i->cameras == 0))
        return rt_error_set(err, RT_E_INVALID, "%s: its dataset.json has no field '%s', so nothing can be told in words", i->chosen,
                            i->captions ? "camera" : "captions");
    json_t *seen = json_object(), *prompts = json_object(), *vocabulary = json_array(), *views = json_array(), *behind = json_array(),
           *list = json_array(), *value;
    const char *key;
    int length = 1;
    for (int64_t k = 0; k < i->count; k++) {
        int n = count_words(seen, rt_dataset_caption(ds, k));
        if (n > length) length = n;
        if (json_object_size(prompts) < RT_WORDS_MOST) json_object_set_new(prompts, rt_dataset_caption(ds, k), json_null());
    }
    json_object_foreach(seen, key, value)
    {
        json_array_append_new(vocabulary, json_string(key));
        if (json_is_false(value)) json_array_append_new(behind, json_string(key));
    }
    json_object_foreach(prompts, key, value) json_array_append_new(list, json_string(key));
    if (json_array_size(behind) > 0) json_array_append(views, behind);
    json_t *names = json_array();
    for (int k = 0; cameras && k < i->cameras; k++) {
        json_t *name = json_sprintf("camera-%d", k);
        json_array_append(vocabulary, name);
        json_array_append_new(names, name);
    }
    if (cameras) json_array_append(views, names);
    *rows = (int)json_array_size(vocabulary) + 1;
    *words = json_pack("{s:o, s:i, s:o, s:o}", "vocabulary", vocabulary, "length", length + cameras, "views", views, "prompts", list);
    json_decref(names);
    json_decref(behind);
    json_decref(prompts);
    json_decref(seen);
    return *words ? RT_OK : rt_error_set(err, RT_E_MEMORY, "%s: out of memory for words", i->chosen);
}
