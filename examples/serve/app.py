"""Serve a bundle: ``BUNDLE=kit/student-int8 uvicorn app:app``."""

import os
from typing import Annotated

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

from optimize import Classifier

app = FastAPI()
classifier = Classifier(os.environ["BUNDLE"])


class Texts(BaseModel):
    texts: Annotated[list[str], Field(min_length=1, max_length=64)]


@app.post("/predict")
def predict(asked: Texts) -> list[dict[str, str | float]]:
    """One by one, as the bundle was judged: a batch shares its INT8 scales."""
    try:
        answers = classifier.predict(asked.texts, batch_size=1)
    except ValueError as error:  # half a character, say
        raise HTTPException(422, str(error)) from error
    return [{"label": answer.label, "probability": answer.probability} for answer in answers]
