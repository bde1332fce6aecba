/* classes.h -- the one rule for classes that are drawn: each sample gets the next, the label that means no class is stepped over. */
#ifndef RT_MODEL_CLASSES_H
#define RT_MODEL_CLASSES_H

#include <stdint.h>

/* Labels of a network that mean a class: `classes` rows of its table, the null class (-1: there is none) among them. */
static inline int64_t rt__usual_classes(int64_t classes, int64_t null_class) { return classes > 0 ? classes - (null_class >= 0) : 0; }

/* The label of sample `index` >= 0; 0 where there are no classes. */
static inline int64_t rt__usual_class(int64_t classes, int64_t null_class, int64_t index)
{
    int64_t usual = rt__usual_classes(classes, null_class), label = usual > 0 ? index % usual : 0;
    return usual > 0 && null_class >= 0 && label >= null_class ? label + 1 : label;
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
