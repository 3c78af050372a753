/* version.h - which doppler this is. */
#ifndef DOPPLER_VERSION_H
#define DOPPLER_VERSION_H

#include "doppler/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* "0.1.0". The same for the whole run of a build. */
DP_API const char *dp_version(void);

#ifdef __cplusplus
}
#endif
#endif
