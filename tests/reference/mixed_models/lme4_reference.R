# Makes lme4_reference.json from trials.csv: logistic mixed models of crossed listeners and recordings.
# Debian 12: apt-get install r-cran-lme4 r-cran-jsonlite; Rscript lme4_reference.R
library(lme4)
trials <- read.csv("trials.csv")
trials$cell <- factor(paste(trials$layer, trials$model))
control <- glmerControl(optimizer = "bobyqa", tolPwrss = 1e-10, optCtrl = list(rhoend = 1e-9))
fits <- list(
  intercepts = glmer(correct ~ 0 + cell + (1 | participant) + (1 | target_id),
                     trials, family = binomial, control = control),
  listener_by_model = glmer(correct ~ 0 + cell + (1 | participant) + (1 | participant:model) +
                              (1 | target_id), trials, family = binomial, control = control),
  metamers = glmer(correct ~ 0 + cell + (1 | participant) + (1 | participant:model) +
                     (1 | target_id) + (1 | target_id:cell),
                   trials, family = binomial, control = control))
described <- lapply(fits, function(fit) {
  sds <- as.data.frame(VarCorr(fit))
  list(cells = levels(trials$cell), fixed = unname(fixef(fit)),
       covariance = unname(as.matrix(vcov(fit, use.hessian = FALSE))),
       covariance_hessian = unname(as.matrix(vcov(fit))),
       sd = as.list(setNames(sds$sdcor, sds$grp)), log_likelihood = as.numeric(logLik(fit)))
})
described$versions <- list(R = as.character(getRversion()),
                           lme4 = as.character(packageVersion("lme4")))
writeLines(jsonlite::toJSON(described, auto_unbox = TRUE, digits = 10, pretty = TRUE),
           "lme4_reference.json")
