/* classes.h -- the one rule for classes that are drawn: each sample gets the next, the label that means no class is stepped over; of prompts, the next of the list. */
#ifndef RT_MODEL_CLASSES_H
#define RT_MODEL_CLASSES_H

#include "retort/nn.h"

/* Labels of a network that mean a class: `classes` rows of its table, the null class (-1: there is none) among them. */
static inline int64_t rt__usual_classes(int64_t classes, int64_t null_class) { return classes > 0 ? classes - (null_class >= 0) : 0; }

/* The label of sample `index` >= 0; 0 where there are no classes. */
static inline int64_t rt__usual_class(int64_t classes, int64_t null_class, int64_t index)
{
    int64_t usual = rt__usual_classes(classes, null_class), label = usual > 0 ? index % usual : 0;
    return usual > 0 && null_class >= 0 && label >= null_class ? label + 1 : label;
}

/* The label of sample `index` of a network that is told words, or classes: prompts are listed. */
static inline int64_t rt__usual_label(const rt_words *words, int64_t classes, int64_t null_class, int64_t index)
{
    if (!words) return rt__usual_class(classes, null_class, index);
    return rt_words_prompts(words) > 0 ? rt_words_prompt(words, index % rt_words_prompts(words)) : null_class;
}

/* How many labels are usual, 0: there are none. */
static inline int64_t rt__usual_labels(const rt_words *words, int64_t classes, int64_t null_class)
{
    return words ? rt_words_prompts(words) : rt__usual_classes(classes, null_class);
}

/* The shape of an input of a graph for labels, and its rank: (B), or (B,L), tokens of prompts; and n labels as it holds them. */
static inline int rt__label_shape(const rt_words *words, int64_t shape[2])
{
    shape[0] = RT_BATCH;
    shape[1] = words ? rt_words_length(words) : 1;
    return words ? 2 : 1;
}
static inline void rt__show_label(const rt_words *words, int64_t label, int64_t i, int64_t *to)
{
    if (words)
        rt_words_tokens(words, label, to + i * rt_words_length(words));
    else
        to[i] = label;
}
static inline void rt__show_labels(const rt_words *words, int64_t n, const int64_t *labels, int64_t *to)
{
    for (int64_t i = 0; i < n; i++) rt__show_label(words, labels[i], i, to);
}

/* Where the largest of n logits stands, the first of equal ones. */
static inline int64_t rt__most_likely(int64_t n, const float *logits)
{
    int64_t best = 0;
    for (int64_t k = 1; k < n; k++)
        if (logits[k] > logits[best]) best = k;
    return best;
}

#endif
