/* font.h -- a font of our own for labels of pictures: printable ASCII, 5 x 9 pixels in cells of 6 x 9, of which the last two rows are descenders. */
#ifndef RT_FORMAT_FONT_H
#define RT_FORMAT_FONT_H

#include <stdbool.h>

enum { RT_FONT_ADVANCE = 6, RT_FONT_HEIGHT = 9, RT_FONT_CAPITAL = 7 }; /* a cell's width and height; the height of a capital letter */

/* Is pixel (x, y) of the character's cell ink? Characters that the font lacks have none. */
bool rt__font_ink(char c, int x, int y);
/* The number of the first character that the font lacks, or -1. */
int rt__font_lacks(const char *text);
int rt__font_width(const char *text); /* in pixels: without the gap behind the last character */

#endif
